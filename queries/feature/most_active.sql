-- feature/most_active
-- The features of a dictionary that fire on the largest share of tokens, over all of its runs.
-- params: dictionary VARCHAR, k INTEGER = 20
-- returns: feature INTEGER, n_fires BIGINT, density DOUBLE, max FLOAT
-- order: density desc, then feature
select feature.feature, sum(feature.n_fires)::bigint as n_fires,
       sum(feature.density * run.n_tokens) / sum(run.n_tokens) as density, max(feature.max) as max
from feature
join run on run.key = feature.run
where feature.dictionary = $dictionary
group by feature.feature
order by density desc, feature.feature
limit $k;
