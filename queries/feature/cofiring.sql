-- feature/cofiring
-- The features that fire on the same tokens of the panel as one feature does: how often each fires there, how often
-- both do, and the share of the tokens of either that are tokens of both.
-- params: dictionary VARCHAR, feature INTEGER, k INTEGER = 10
-- returns: feature INTEGER, n_both BIGINT, n_other BIGINT, jaccard DOUBLE
-- order: jaccard desc, then feature
with own as (
    select run, context, position
    from panel
    where dictionary = $dictionary and feature = $feature
),
n_own as (select count(*) as n from own),
both_fire as (
    select panel.feature, count(*) as n_both
    from panel
    join own on own.run = panel.run and own.context = panel.context and own.position = panel.position
    where panel.dictionary = $dictionary and panel.feature <> $feature
    group by panel.feature
),
other as (
    select feature, count(*) as n_other
    from panel
    where dictionary = $dictionary and feature in (select feature from both_fire)
    group by feature
)
select both_fire.feature, both_fire.n_both, other.n_other,
       both_fire.n_both / (n_own.n + other.n_other - both_fire.n_both)::double as jaccard
from both_fire
join other on other.feature = both_fire.feature
cross join n_own
order by jaccard desc, both_fire.feature
limit $k;
