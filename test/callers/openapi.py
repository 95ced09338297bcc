"""A caller of the client that openapi-python-client generates from /openapi.json, as the package shop_api."""

import importlib
import json
import pkgutil
import sys
from typing import Any

import shop_api.api
from shop_api import Client

MODULES = [module.name for module in pkgutil.walk_packages(shop_api.api.__path__, "shop_api.api.")]


def operation(name: str) -> Any:
    """The module of an operation, whatever its tag."""
    (found,) = [module for module in MODULES if module.endswith(f".{name}")]
    return importlib.import_module(found)


def body(name: str, fields: dict[str, Any]) -> Any:
    """An operation's body, whatever the generator calls its class."""
    return operation(name)._get_kwargs.__annotations__["body"].from_dict(fields)


def main(api: str, order_id: str) -> dict[str, Any]:
    client = Client(base_url=api)
    fields = {
        "payment_id": f"pay-{order_id}",
        "address": {"line1": "123 Main", "city": "Chicago"},
        "items": [{"sku": "ABC", "qty": 2}],
    }
    started = operation("orders_start").sync(order_id, client=client, body=body("orders_start", fields))
    key = f"approve-{order_id}"
    approved = operation("orders_signal_approve").sync(order_id, client=client, idempotency_key=key)
    status = operation("orders_status").sync(order_id, client=client)
    unknown = operation("orders_status").sync(f"{order_id}-unknown", client=client)
    return {
        "workflow_id": started.workflow_id,
        "ok": approved.ok,
        "status": {"order_id": status.order_id, "approved": status.approved},
        "code": unknown.code,
    }


print(json.dumps(main(sys.argv[1], sys.argv[2])))
