"""The calls of the Segment spec, as all SDKs that descend from it have them."""


def spec(client):
    context = {"ip": "203.0.113.9", "userAgent": "Phone/1"}
    client.identify("u1", {"plan": "pro"}, context=dict(context))
    client.track("u1", "Order Completed", {"total": 25.5, "currency": "EUR"}, context=dict(context))
    client.page("u1", "Catalogue", "Home", {"url": "https://shop.example/"}, context=dict(context))
    client.screen("u1", "Catalogue", "Start", {}, context=dict(context))
    client.group("u1", "acme", {"tier": "gold"}, context=dict(context))
    client.alias("a1", "u1", context=dict(context))
