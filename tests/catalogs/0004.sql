BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0004');
CREATE TABLE corpus (
	id INTEGER NOT NULL, 
	name VARCHAR NOT NULL, 
	spec VARCHAR NOT NULL, 
	plugin VARCHAR NOT NULL, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_corpus PRIMARY KEY (id), 
	CONSTRAINT uq_corpus_spec_plugin UNIQUE (spec, plugin)
);
INSERT INTO "corpus" VALUES(1,'words','text:run-one.txt','text.v1','2026-11-21 04:09:31.373371');
CREATE TABLE dictionary (
	id INTEGER NOT NULL, 
	name VARCHAR NOT NULL, 
	kind VARCHAR NOT NULL, 
	source VARCHAR NOT NULL, 
	plugin VARCHAR NOT NULL, 
	hook VARCHAR NOT NULL, 
	hooks_out JSON NOT NULL, 
	n_features INTEGER NOT NULL, 
	d_in INTEGER NOT NULL, 
	d_out INTEGER NOT NULL, 
	fingerprint VARCHAR NOT NULL, 
	model_id INTEGER NOT NULL, 
	trained JSON NOT NULL, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_dictionary PRIMARY KEY (id), 
	CONSTRAINT fk_dictionary_model_id FOREIGN KEY(model_id) REFERENCES model (id), 
	CONSTRAINT uq_dictionary_name UNIQUE (name)
);
INSERT INTO "dictionary" VALUES(1,'alpha','sae','./alpha','saelens.v1','layers.0.resid_post','["layers.0.resid_post"]',8,6,6,'8ed3f6ad685b959ead7022518e1af76cd816f8e8ec7ccdda1ed4018e8f2223f8',1,'{}','2026-11-21 04:09:31.388303');
INSERT INTO "dictionary" VALUES(2,'beta','sae','./beta','saelens.v1','layers.1.resid_post','["layers.1.resid_post"]',5,6,6,'f44e64e75f3948e9f73f8dfa94721c4ce8cbb4f265c4790c702b2d41cfbf2753',1,'{}','2026-11-21 04:09:31.391029');
CREATE TABLE file (
	id INTEGER NOT NULL, 
	path VARCHAR NOT NULL, 
	n_bytes BIGINT NOT NULL, 
	sha256 VARCHAR NOT NULL, 
	role VARCHAR NOT NULL, 
	run_id INTEGER, 
	dictionary_id INTEGER, 
	CONSTRAINT pk_file PRIMARY KEY (id), 
	CONSTRAINT fk_file_dictionary_id FOREIGN KEY(dictionary_id) REFERENCES dictionary (id), 
	CONSTRAINT fk_file_run_id FOREIGN KEY(run_id) REFERENCES run (id), 
	CONSTRAINT uq_file_path UNIQUE (path)
);
INSERT INTO "file" VALUES(1,'runs/run-one/contexts.duckdb',1323008,'680800f4718d2a9cb91a6bd84ac4ea1d09435f26c086ba7330769bf7ceea29fc','contexts',1,NULL);
INSERT INTO "file" VALUES(2,'runs/run-one/layers.0.resid_post.moments.safetensors',536,'9bd71724085c2be8d1c35be95e803ee0aba20e033b2f856721be670f29622c38','moments',1,NULL);
INSERT INTO "file" VALUES(3,'runs/run-one/alpha.duckdb',1323008,'69dac41cd53423b0b46f831fde1f038db9c1232b4555f0beac519300c0643c33','segment',1,1);
INSERT INTO "file" VALUES(4,'runs/run-one/alpha.response.safetensors',272,'7dd282e74f88f071aab79a72526459c90de931104a6ef187caa00aa72dcef3ca','response',1,1);
INSERT INTO "file" VALUES(5,'dictionaries/alpha/weights.safetensors',264,'752560b6b8b13c94bb4c94e5b8104f7fd554077e26043f7cec9dd7be3a564679','weights',NULL,1);
INSERT INTO "file" VALUES(6,'dictionaries/alpha/decoder.faiss',237,'4e40c898c2d471d5c3c7f3d601f61b451cb8aa132761041ba3b2732e1f5e51b6','decoder-index',NULL,1);
INSERT INTO "file" VALUES(7,'runs/run-one/layers.1.resid_post.moments.safetensors',536,'9bd71724085c2be8d1c35be95e803ee0aba20e033b2f856721be670f29622c38','moments',1,NULL);
INSERT INTO "file" VALUES(8,'runs/run-one/beta.duckdb',1323008,'315fb3c7824824a16f8f5060e9ec186078b1f729edf232130f46cf39e604507a','segment',1,2);
INSERT INTO "file" VALUES(9,'runs/run-one/beta.response.safetensors',200,'1a2a1dec26bbf23a437de437199ed0737123ae97a2f5df93c108c4e01d6057ed','response',1,2);
INSERT INTO "file" VALUES(10,'dictionaries/beta/weights.safetensors',192,'cd949068306ee65a86977c4e2c3af3c2c462df3cda9490529589b6c8a63465f1','weights',NULL,2);
INSERT INTO "file" VALUES(11,'dictionaries/beta/decoder.faiss',165,'0202d31141bdd4acd72046ede560ef1405fdac25d4771b9d57ecd73ed80ef9b6','decoder-index',NULL,2);
CREATE TABLE label (
	id INTEGER NOT NULL, 
	dictionary_id INTEGER NOT NULL, 
	feature_index INTEGER NOT NULL, 
	text TEXT, 
	labeler VARCHAR NOT NULL, 
	status VARCHAR NOT NULL, 
	author VARCHAR, 
	note TEXT, 
	provenance JSON NOT NULL, 
	created_at DATETIME NOT NULL, predicate JSON, gain DOUBLE, 
	CONSTRAINT pk_label PRIMARY KEY (id), 
	CONSTRAINT fk_label_dictionary_id FOREIGN KEY(dictionary_id) REFERENCES dictionary (id)
);
INSERT INTO "label" VALUES(1,1,3,'capital letters','hand.v1','verified','ada','seen','{}','2026-11-21 04:09:31.453036','{"in": "word.capitals"}',NULL);
CREATE TABLE leftover (
	id INTEGER NOT NULL, 
	path VARCHAR NOT NULL, 
	CONSTRAINT pk_leftover PRIMARY KEY (id), 
	CONSTRAINT uq_leftover_path UNIQUE (path)
);
CREATE TABLE model (
	id INTEGER NOT NULL, 
	name VARCHAR NOT NULL, 
	source VARCHAR NOT NULL, 
	fingerprint VARCHAR NOT NULL, 
	architecture VARCHAR NOT NULL, 
	n_layers INTEGER NOT NULL, 
	d_model INTEGER NOT NULL, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_model PRIMARY KEY (id), 
	CONSTRAINT uq_model_name_fingerprint UNIQUE (name, fingerprint)
);
INSERT INTO "model" VALUES(1,'tiny','./tiny','f00d','gpt2',2,6,'2026-11-21 04:09:31.366486');
CREATE TABLE run (
	id INTEGER NOT NULL, 
	"key" VARCHAR NOT NULL, 
	model_id INTEGER NOT NULL, 
	corpus_id INTEGER NOT NULL, 
	n_tokens BIGINT NOT NULL, 
	n_contexts BIGINT NOT NULL, 
	n_kept INTEGER NOT NULL, 
	context_length INTEGER NOT NULL, 
	packing VARCHAR NOT NULL, 
	seed BIGINT NOT NULL, 
	settings JSON NOT NULL, 
	versions JSON NOT NULL, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_run PRIMARY KEY (id), 
	CONSTRAINT fk_run_corpus_id FOREIGN KEY(corpus_id) REFERENCES corpus (id), 
	CONSTRAINT fk_run_model_id FOREIGN KEY(model_id) REFERENCES model (id), 
	CONSTRAINT uq_run_key UNIQUE ("key")
);
INSERT INTO "run" VALUES(1,'run-one',1,1,1000,200,4,6,'concat',0,'{"examples": 4}','{"featuredb": "0"}','2026-11-21 04:09:31.374493');
CREATE TABLE segment (
	id INTEGER NOT NULL, 
	run_id INTEGER NOT NULL, 
	dictionary_id INTEGER NOT NULL, 
	path VARCHAR NOT NULL, 
	moments VARCHAR, 
	n_features INTEGER NOT NULL, 
	n_examples BIGINT NOT NULL, 
	n_panel BIGINT NOT NULL, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_segment PRIMARY KEY (id), 
	CONSTRAINT fk_segment_dictionary_id FOREIGN KEY(dictionary_id) REFERENCES dictionary (id), 
	CONSTRAINT fk_segment_run_id FOREIGN KEY(run_id) REFERENCES run (id), 
	CONSTRAINT uq_segment_path UNIQUE (path), 
	CONSTRAINT uq_segment_run_id_dictionary_id UNIQUE (run_id, dictionary_id)
);
INSERT INTO "segment" VALUES(1,1,1,'runs/run-one/alpha.duckdb','runs/run-one/layers.0.resid_post.moments.safetensors',8,22,27,'2026-11-21 04:09:31.390013');
INSERT INTO "segment" VALUES(2,1,2,'runs/run-one/beta.duckdb','runs/run-one/layers.1.resid_post.moments.safetensors',5,10,10,'2026-11-21 04:09:31.395778');
CREATE TABLE label_embedding (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	label_id INTEGER NOT NULL, 
	embedder VARCHAR NOT NULL, 
	vector BLOB NOT NULL, 
	CONSTRAINT fk_label_embedding_label_id FOREIGN KEY(label_id) REFERENCES label (id) ON DELETE CASCADE, 
	CONSTRAINT uq_label_embedding_label_id_embedder UNIQUE (label_id, embedder)
);
INSERT INTO "label_embedding" VALUES(1,1,'tiny',X'003C000000000000');
CREATE TABLE concept (
	id INTEGER NOT NULL, 
	name VARCHAR NOT NULL, 
	model_name VARCHAR, 
	model_fingerprint VARCHAR, 
	method VARCHAR NOT NULL, 
	settings JSON NOT NULL, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_concept PRIMARY KEY (id), 
	CONSTRAINT uq_concept_name UNIQUE (name)
);
INSERT INTO "concept" VALUES(1,'capitals','tiny','f00d','mean-difference','{"token": "last"}','2026-11-21 11:04:57.992410');
CREATE TABLE concept_direction (
	id INTEGER NOT NULL, 
	concept_id INTEGER NOT NULL, 
	hook VARCHAR NOT NULL, 
	vector BLOB NOT NULL, 
	figures JSON NOT NULL, 
	CONSTRAINT pk_concept_direction PRIMARY KEY (id), 
	CONSTRAINT fk_concept_direction_concept_id FOREIGN KEY(concept_id) REFERENCES concept (id) ON DELETE CASCADE, 
	CONSTRAINT uq_concept_direction_concept_id_hook UNIQUE (concept_id, hook)
);
INSERT INTO "concept_direction" VALUES(1,1,'layers.0.resid_post',X'0000803F0000000000000000000000000000000000000000','{"auroc": 0.9, "auroc_low": 0.8, "auroc_high": 0.95}');
CREATE TABLE concept_text (
	id INTEGER NOT NULL, 
	concept_id INTEGER NOT NULL, 
	positive BOOLEAN NOT NULL, 
	text TEXT NOT NULL, 
	CONSTRAINT pk_concept_text PRIMARY KEY (id), 
	CONSTRAINT fk_concept_text_concept_id FOREIGN KEY(concept_id) REFERENCES concept (id) ON DELETE CASCADE
);
INSERT INTO "concept_text" VALUES(1,1,1,'LOUD');
INSERT INTO "concept_text" VALUES(2,1,0,'quiet');
CREATE TABLE baseline (
	id INTEGER NOT NULL, 
	dictionary_id INTEGER NOT NULL, 
	run_id INTEGER, 
	measure VARCHAR NOT NULL, 
	seed BIGINT NOT NULL, 
	n INTEGER NOT NULL, 
	figures JSON NOT NULL, 
	CONSTRAINT pk_baseline PRIMARY KEY (id), 
	CONSTRAINT fk_baseline_dictionary_id FOREIGN KEY(dictionary_id) REFERENCES dictionary (id) ON DELETE CASCADE, 
	CONSTRAINT fk_baseline_run_id FOREIGN KEY(run_id) REFERENCES run (id) ON DELETE CASCADE, 
	CONSTRAINT uq_baseline_dictionary_id_run_id_measure_seed UNIQUE (dictionary_id, run_id, measure, seed)
);
INSERT INTO "baseline" VALUES(1,1,1,'correlation',0,100,'{"median": 0.1, "high": 0.2}');
CREATE TABLE "score" (
	id INTEGER NOT NULL, 
	label_id INTEGER NOT NULL, 
	scorer VARCHAR NOT NULL, 
	value DOUBLE, 
	low DOUBLE, 
	high DOUBLE, 
	n INTEGER, 
	failed INTEGER, 
	baseline DOUBLE, 
	judge VARCHAR, 
	seed BIGINT, 
	created_at DATETIME NOT NULL, 
	reason TEXT, 
	details JSON DEFAULT '{}' NOT NULL, 
	CONSTRAINT pk_score PRIMARY KEY (id), 
	CONSTRAINT fk_score_label_id FOREIGN KEY(label_id) REFERENCES label (id) ON DELETE CASCADE
);
INSERT INTO "score" VALUES(1,1,'file.v1',0.75,0.5,0.9,40,0,0.5,NULL,7,'2026-11-21 11:04:57.993659',NULL,'{"precision": 0.5}');
CREATE TABLE answer (
	id INTEGER NOT NULL, 
	asked VARCHAR NOT NULL, 
	model VARCHAR NOT NULL, 
	text TEXT NOT NULL, 
	n_in INTEGER, 
	n_out INTEGER, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_answer PRIMARY KEY (id), 
	CONSTRAINT uq_answer_asked UNIQUE (asked)
);
INSERT INTO "answer" VALUES(1,'abc','tiny','{"label": "capital letters"}',12,4,'2026-11-21 13:02:06.972379');
CREATE TABLE finding (
	id INTEGER NOT NULL, 
	dictionary_id INTEGER NOT NULL, 
	feature_index INTEGER NOT NULL, 
	plugin VARCHAR NOT NULL, 
	name VARCHAR NOT NULL, 
	score DOUBLE NOT NULL, 
	flagged BOOLEAN NOT NULL, 
	p DOUBLE, 
	q DOUBLE, 
	label_id INTEGER, 
	evidence JSON NOT NULL, 
	suggestion TEXT, 
	seed BIGINT NOT NULL, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_finding PRIMARY KEY (id), 
	CONSTRAINT fk_finding_dictionary_id_dictionary FOREIGN KEY(dictionary_id) REFERENCES dictionary (id) ON DELETE CASCADE, 
	CONSTRAINT fk_finding_label_id_label FOREIGN KEY(label_id) REFERENCES label (id) ON DELETE CASCADE
);
INSERT INTO "finding" VALUES(1,1,3,'mislabelled.v1','mislabelled',0.93,1,0.0004,0.01,1,'{"own": 0.02, "examples": [1]}','a word in capitals',0,'2026-11-21 14:53:53.475388');
CREATE TABLE verdict (
	id INTEGER NOT NULL, 
	dictionary_id INTEGER NOT NULL, 
	feature_index INTEGER NOT NULL, 
	name VARCHAR NOT NULL, 
	label_id INTEGER, 
	verdict VARCHAR NOT NULL, 
	author VARCHAR, 
	note TEXT, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_verdict PRIMARY KEY (id), 
	CONSTRAINT fk_verdict_dictionary_id_dictionary FOREIGN KEY(dictionary_id) REFERENCES dictionary (id) ON DELETE CASCADE, 
	CONSTRAINT fk_verdict_label_id_label FOREIGN KEY(label_id) REFERENCES label (id) ON DELETE CASCADE
);
INSERT INTO "verdict" VALUES(1,1,3,'mislabelled',1,'confirmed','ada','it is','2026-11-21 14:53:53.479231');
CREATE INDEX ix_dictionary_model_id ON dictionary (model_id);
CREATE INDEX ix_run_corpus_id ON run (corpus_id);
CREATE INDEX ix_run_model_id ON run (model_id);
CREATE INDEX ix_file_dictionary_id ON file (dictionary_id);
CREATE INDEX ix_file_run_id ON file (run_id);
CREATE INDEX ix_label_dictionary_id_feature_index ON label (dictionary_id, feature_index);
CREATE INDEX ix_segment_dictionary_id ON segment (dictionary_id);
CREATE INDEX ix_label_embedding_embedder ON label_embedding (embedder);
CREATE INDEX ix_concept_text_concept_id ON concept_text (concept_id);
CREATE INDEX ix_baseline_run_id ON baseline (run_id);
CREATE INDEX ix_score_label_id ON score (label_id);
CREATE INDEX ix_finding_dictionary_id_feature_index_plugin ON finding (dictionary_id, feature_index, plugin);
CREATE INDEX ix_finding_label_id ON finding (label_id);
CREATE INDEX ix_verdict_dictionary_id_feature_index ON verdict (dictionary_id, feature_index);
CREATE INDEX ix_verdict_label_id ON verdict (label_id);
CREATE VIRTUAL TABLE label_fts using fts5(text, content='label', content_rowid='id', prefix='2 3', tokenize='porter unicode61 remove_diacritics 2');
insert into label_fts (rowid, text) select id, text from label where text is not null;
CREATE TRIGGER label_fts_insert after insert on label when new.text is not null begin insert into label_fts (rowid, text) values (new.id, new.text); end;
CREATE TRIGGER label_fts_delete after delete on label when old.text is not null begin insert into label_fts (label_fts, rowid, text) values ('delete', old.id, old.text); end;
CREATE TRIGGER label_fts_update after update of text on label begin insert into label_fts (label_fts, rowid, text) select 'delete', old.id, old.text where old.text is not null; insert into label_fts (rowid, text) select new.id, new.text where new.text is not null; end;
COMMIT;
