-- context/tokens
-- The tokens of one kept context of a run, and the document each comes from (null for a special token).
-- params: run VARCHAR, context INTEGER
-- returns: position INTEGER, token INTEGER, text VARCHAR, document VARCHAR
-- order: position
with one as (
    select tokens, piece_starts, piece_ends, piece_documents
    from context
    where run = $run and context = $context
),
word as (
    select unnest(range(len(tokens)))::integer as position, unnest(tokens) as token
    from one
),
piece as (
    select unnest(piece_starts) as start_position, unnest(piece_ends) as end_position,
           unnest(piece_documents) as document
    from one
)
select word.position, word.token, token.text, document.name as document
from word
left join token on token.run = $run and token.token = word.token
left join piece on word.position >= piece.start_position and word.position < piece.end_position
left join document on document.run = $run and document.document = piece.document
order by word.position;
