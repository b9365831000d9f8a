//! Tests of the bounds of a mapping against hostile events.

use super::*;
use crate::mapping::bounded;

/// Returns the mapped `properties.value`, and the settings whose bounds were met.
fn value_of(template: &str, properties: Value) -> (Option<Value>, Vec<&'static str>) {
    let event = test_support::event(json!({ "event": "x", "properties": properties }));
    let mapping = mapping(&rule(&format!("set = {{ \"properties.value\" = {template:?} }}")));
    let mapped = mapping.apply(event).unwrap();
    let bounds = mapping.take_omissions().map(|(counts, _)| counts).unwrap_or_default();
    let value = mapped.event.properties.as_ref().and_then(|it| it.get("value")).cloned();
    (value, bounds.into_iter().map(|(bound, _)| bound.name()).collect())
}

#[test]
fn list_times_a_number_runs_out_of_steps() {
    for properties in [
        json!({ "price": 100_000_000, "quantity": [1] }),
        json!({ "price": [[1, 2], "x"], "quantity": 50_000_000 }),
        json!({ "price": ["a".repeat(20_000)], "quantity": 4000 }),
    ] {
        for template in [
            "{{ properties.price * properties.quantity }}",
            "{{ properties.price * properties.quantity }} EUR",
            "{{ (properties.price * properties.quantity) ~ 'EUR' }}",
            "{{ (properties.price * properties.quantity)|string|length }}",
            "{{ (properties.price * properties.quantity)|join(',') }}",
            "{{ (properties.price * properties.quantity)|last }}",
            "{{ properties.price and (properties.price * properties.quantity)[1:] }}",
            "{{ (properties.price * properties.quantity) + [1] }}",
            "{{ [properties.price * properties.quantity, 1] }}",
            "{{ {'a': properties.price * properties.quantity} }}",
            "{{ 'x' in (properties.price * properties.quantity)|string }}",
            "{% set all = properties.price * properties.quantity %}{{ all }}",
            "{% set all %}{{ properties.price * properties.quantity }}{% endset %}{{ all|length }}",
            "{{ '%s'|format(properties.price * properties.quantity) }}",
            "{{ properties.price * properties.quantity == properties.price * properties.quantity }}",
        ] {
            let (value, bounds) = value_of(template, properties.clone());
            assert_eq!((value, bounds), (None, vec!["template_steps"]), "{template}");
        }
    }
}

#[test]
fn template_value_beyond_a_bound_is_never_made() {
    let properties = json!({ "n": 1_000_000_000, "s": "x".repeat(1000), "l": [1, 2, 3] });
    for template in [
        "{{ properties.s * properties.n }}",
        "{{ properties.s * 99_999 }}",
        "{{ range(properties.n) }}",
        "{{ range(90000)|list }}",
        "{{ properties.l|batch(properties.n, 'x') }}",
        "{{ properties.l|batch(90000000, 'x') }}",
        "{{ properties.l|slice(90000000)|list }}",
        "{{ 'a'|indent(properties.n, true) }}",
        "{{ '%1000000000d'|format(1) }}",
        "{{ '%*d'|format(properties.n, 1) }}",
        "{{ '%.1000000000f'|format(1.5) }}",
        "{{ ('a' * 10000)|replace('a', properties.s) }}",
        "{{ range(10000)|join(properties.s) }}",
        "{{ (1, 2) * properties.n }}",
        "{% set ns = namespace(s = properties.s) %}{% for i in range(40) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}{{ ns.s|length }}",
        "{% set ns = namespace(s = properties.s) %}{% for i in range(40) %}{% set ns.s = ns.s + ns.s %}{% endfor %}{{ ns.s|length }}",
        "{% set ns = namespace(l = properties.l) %}{% for i in range(40) %}{% set ns.l = ns.l + ns.l %}{% endfor %}{{ ns.l|length }}",
        "{% set ns = namespace(l = properties.l) %}{% for i in range(40) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l }}",
        "{% set ns = namespace(l = properties.l) %}{% for i in range(40) %}{% set ns.l = (ns.l, ns.l) %}{% endfor %}{{ ns.l|string|length }}",
        "{% set ns = namespace(l = properties.l) %}{% for i in range(40) %}{% set ns.l = {'a': ns.l, 'b': ns.l} %}{% endfor %}{{ ns.l ~ '' }}",
        "{% set ns = namespace(l = properties.l) %}{% for i in range(40) %}{% set ns.l = dict(a=ns.l, b=ns.l) %}{% endfor %}{{ ns.l ~ '' }}",
        "{% set ns = namespace(l = properties.l) %}{% for i in range(9000) %}{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l }}",
        "{% set ns = namespace(l = properties.l) %}{% for i in range(9000) %}{% set ns.l = ns.l[0:] %}{% endfor %}{{ ns.l|length }}{{ ns.l * 90000 }}",
        "{% set ns = namespace() %}{% set ns.own = [ns] %}{{ ns }}",
        "{% for i in range(3000) %}{% for j in range(3000) %}{% for k in range(3000) %}x{% endfor %}{% endfor %}{% endfor %}",
    ] {
        let (value, _) = value_of(template, properties.clone());
        assert_eq!(value, None, "{template}");
    }
}

#[test]
fn value_beyond_template_bytes_is_left_out_and_counted() {
    let long = json!({ "s": "x".repeat(70_000), "l": vec![1; 10_000] });
    for template in ["{{ properties.s }}", "a{{ properties.s }}", "{{ properties.l }}"] {
        assert_eq!(value_of(template, long.clone()), (None, vec!["template_bytes"]), "{template}");
    }
    let mapping = mapping(&rule(
        "set = { \"properties.x\" = \"{{ range(properties.l|length * 15)|list }}\" }",
    ));
    let event = || test_support::event(json!({ "properties": { "l": vec![1; 5000] } }));
    for is_news in [true, false] {
        mapping.apply(event()).unwrap();
        mapping.apply(event()).unwrap();
        let counts = vec![(MappingBound::Steps, 2)];
        assert_eq!(mapping.take_omissions(), Some((counts, is_news)));
    }
    assert_eq!(mapping.take_omissions(), None);
}

#[test]
fn condition_beyond_its_steps_is_undecided() {
    let event = test_support::event(json!({ "properties": { "a": [1], "b": 100_000_000 } }));
    let text = "where = \"properties.a * properties.b == properties.a * properties.b\"";
    let Err(WithheldReason::Undecided(why)) = mapping(text).apply(event) else {
        panic!("it is decided")
    };
    assert!(why.contains("fuel"), "{why}");
}

#[test]
fn copies_of_values_stop_at_mapping_bytes() {
    let many: Vec<Value> = (0..2000).map(|n| json!({ "n": n })).collect();
    let event =
        test_support::event(json!({ "properties": { "all": many, "s": "x".repeat(30_000) } }));
    let text = "[[mapping.rules]]\nset = { \"properties.all.*.s\" = \"{{ properties.s }}\" }\n\
        [[mapping.rules]]\nset = { \"properties.all.*.*\" = \"{{ properties.all[:50] }}\" }\n\
        [[mapping.rules]]\nmove = { \"properties.s\" = \"properties.all.*.t\" }";
    let mapping = mapping(text);
    let mapped = mapping.apply(event).unwrap();
    let size = serde_json::to_string(&*mapped.event).unwrap().len();
    assert!(size < 1_200_000, "{size}");
    let counts = mapping.take_omissions().unwrap().0;
    assert!(counts.iter().any(|(bound, count)| *bound == MappingBound::Mapping && *count > 1000));
}

#[test]
fn bounded_template_has_the_same_value_as_without_bounds() {
    let properties = json!({
        "price": 9.5, "n": 3, "s": " Ab ", "deep": { "a": { "b": [1, 2] } }, "none": null,
        "products": [{ "sku": "a", "price": 1, "tags": ["x", "y"] }, { "sku": "b", "price": 2.5 }],
    });
    let context =
        minijinja::Value::from(minijinja::value::Serde(json!({ "properties": properties })));
    let mut environment = minijinja::Environment::new();
    environment.set_undefined_behavior(minijinja::UndefinedBehavior::Chainable);
    environment.set_fuel(Some(50_000));
    environment.add_filter(bounded::FILTER, bounded::bounded);
    for text in [
        "properties.price * properties.n + 1",
        "(properties.price + 1) * (properties.n)",
        "-properties.n ** 2 + -(properties.n)",
        "not properties.missing.deep and properties.n is odd",
        "properties.missing|default('x') ~ (properties.s|trim|lower)",
        "( properties.products )|map(attribute='price')|sum * 2",
        "properties.products|selectattr('price', '>', 1)|map(attribute='sku')|join(', ')",
        "(properties.products|map(attribute='sku')|list + ['c'])[1:]",
        "properties.deep.a['b'][0] if properties.n == 3 else 'no'",
        "1 < properties.n <= 3 and 'a' in properties.s|lower",
        "properties.n not in [1, 2] and (properties.n, 1) == (3, 1)",
        "{'a': properties.n, 'b': [properties.s, (1,)]}",
        "[properties.deep, properties.products[0].tags * 2]|length",
        "((properties.n)) * ((2)) - (((properties.price)))",
        "'é' ~ properties.s ~ 'ü' ~ (properties.n * 2)",
        "properties.none is none and properties.none|default('d', true) == 'd'",
        "range(properties.n)|list",
        "dict(a=properties.n, **{'b': 1})",
        "()",
        "properties.s[::-1]",
        "'%s-%d'|format(properties.s, properties.n)",
        "properties.products|length > 1",
    ] {
        let plain = environment.compile_expression(text).unwrap().eval(&context).unwrap();
        let text_of_it = bounded::expression(text).unwrap();
        let own = environment.compile_expression(&text_of_it).unwrap().eval(&context).unwrap();
        let json = |value: minijinja::Value| serde_json::to_value(value).unwrap();
        assert_eq!(json(plain), json(own), "{text} as {text_of_it}");
    }
    for text in [
        "ä {{ properties.price * 2 }}|{{properties.s}}{# no #} {% raw %}{{ x }}{% endraw %}",
        "{%- for p in properties.products if p.price > 0 -%} {{ loop.index ~ p.sku }}{% else %}-{% endfor %}",
        "{% set a, b = properties.n, (1) %}{{ a + b }}{% set c %}{{ a }}x{% endset %}{{ c * 2 }}",
        "{% set ns = namespace(t=0) %}{% for p in properties.products %}{% set ns.t = ns.t + p.price %}{% endfor %}{{ ns.t }}",
        "{% if properties.n == 3 and not properties.x %}{{ (properties.deep.a.b + [3])|join('-') }}{% endif %}",
        "{% with a = properties.n * 2 %}{{ a }}{% endwith %}{% filter upper %}x{{ properties.s }}{% endfilter %}",
        "{% for x in (1, 2) %}{{ loop.cycle('a', 'b') }}{% endfor %}{% for k, v in properties.deep.a|items %}{{ k }}{{ v }}{% endfor %}",
        "{% for p in properties.products recursive %}{{ p.sku }}{{ loop(p.tags|default([])) if p.tags }}{% endfor %}",
    ] {
        let own = bounded::template(text).unwrap();
        let plain = environment.render_str(text, &context).unwrap();
        assert_eq!(plain, environment.render_str(&own, &context).unwrap(), "{text} as {own}");
    }
}
