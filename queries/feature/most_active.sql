-- feature/most_active
-- The features of a dictionary that fire on the largest share of tokens, over all of its runs.
-- params: dictionary VARCHAR, k INTEGER = 20
-- returns: feature INTEGER, n_fires BIGINT, density DOUBLE, max FLOAT
-- order: density desc, those not known last, then feature
select feature.feature, sum(feature.n_fires)::bigint as n_fires,
       case when sum(run.n_tokens) > 0 then sum(feature.density * run.n_tokens) / sum(run.n_tokens)
            else max(feature.density) end as density, max(feature.max) as max
from feature
join run on run.key = feature.run
where feature.dictionary = $dictionary
group by feature.feature
order by density desc nulls last, feature.feature
limit $k;
