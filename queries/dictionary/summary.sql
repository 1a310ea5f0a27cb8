-- dictionary/summary
-- Each dictionary in each run: tokens read, features, dead features, and features firing on the average token.
-- params: none
-- returns: dictionary VARCHAR, run VARCHAR, n_tokens BIGINT, n_features BIGINT, n_dead BIGINT, l0 DOUBLE, max FLOAT
-- order: dictionary, then run
select feature.dictionary, feature.run, any_value(run.n_tokens) as n_tokens, count(*) as n_features,
       count(*) filter (feature.n_fires = 0) as n_dead, sum(feature.density) as l0, max(feature.max) as max
from feature
join run on run.key = feature.run
group by feature.dictionary, feature.run
order by feature.dictionary, feature.run;
