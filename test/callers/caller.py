"""A Temporal caller in Python. It uses the documented names and imports nothing of this repository."""

import asyncio
import json
import os
import sys

from temporalio.client import Client, WorkflowUpdateFailedError


async def main(address: str, order_id: str) -> dict:
    client = await Client.connect(address)
    order = {
        "order_id": order_id,
        "payment_id": f"pay-{order_id}",
        "address": {"line1": "123 Main", "city": "Chicago"},
        "items": [{"sku": "ABC", "qty": 1}],
    }
    handle = await client.start_workflow("OrderWorkflow", order, id=f"order-{order_id}", task_queue="orders-tq")
    await handle.signal("approve")
    seen = await handle.query("status")
    result = await handle.result()

    refused = await client.start_workflow(
        "OrderWorkflow", {**order, "order_id": f"{order_id}-2", "address": None},
        id=f"order-{order_id}-2", task_queue="orders-tq",
    )
    null_address = await refused.result()

    canceled = await client.start_workflow(
        "OrderWorkflow", {**order, "order_id": f"{order_id}-3", "payment_id": f"pay-{order_id}-3"},
        id=f"order-{order_id}-3", task_queue="orders-tq",
    )
    answer = await canceled.execute_update("cancel_order", None)
    try:
        await canceled.execute_update("approve")
        late = "accepted"
    except WorkflowUpdateFailedError as error:
        late = error.cause.type
    except Exception as error:  # the run may have completed by then
        late = type(error).__name__
    return {
        "seen": seen,
        "result": result,
        "null_address": null_address,
        "cancel_answer": answer,
        "late": late,
        "canceled": await canceled.result(),
        "cancel_reason": (await canceled.query("status"))["cancel_reason"],
    }


print(json.dumps(asyncio.run(main(sys.argv[1], sys.argv[2]))), flush=True)
# The SDK's threads may still run when the interpreter ends, and crash it.
os._exit(0)
