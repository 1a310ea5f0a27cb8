-- feature/dead
-- The features of a dictionary that fired on no token of any run, and how many tokens that is.
-- params: dictionary VARCHAR
-- returns: feature INTEGER, n_tokens BIGINT
-- order: feature
select feature.feature, sum(run.n_tokens)::bigint as n_tokens
from feature
join run on run.key = feature.run
where feature.dictionary = $dictionary
group by feature.feature
having sum(feature.n_fires) = 0
order by feature.feature;
