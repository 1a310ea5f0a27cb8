-- feature/top_examples
-- The contexts on which one feature fires hardest, each once in its run, at its strongest token.
-- params: dictionary VARCHAR, feature INTEGER, k INTEGER = 10
-- returns: run VARCHAR, context INTEGER, position USMALLINT, activation FLOAT, token VARCHAR
-- order: activation desc, then run, then context
select example.run, example.context, example.position, example.activation, token.text as token
from example
join context on context.run = example.run and context.context = example.context
left join token on token.run = example.run and token.token = context.tokens[example.position + 1]
where example.dictionary = $dictionary and example.feature = $feature and example.kind = 0
order by example.activation desc, example.run, example.context
limit $k;
