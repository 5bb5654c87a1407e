// Calls a sandbox with the vendor's client, as the vendor documents it, and prints each result as a line of JSON.
//
// node refresh.cjs HOST TENANT CLIENT_ID SHARED_SECRET LOCATION

const { Configuration } = require("@kibocommerce/rest-sdk");
const { InventoryJobApi, ModifyInventoryApi } = require("@kibocommerce/rest-sdk/clients/Inventory");

const [host, tenant, clientId, sharedSecret, location] = process.argv.slice(2);
const JOB_ENDS = ["SUCCESS", "FAILED"];

function print(call, result) {
  console.log(JSON.stringify({ call, result }));
}

async function main() {
  const configuration = new Configuration({ tenantId: Number(tenant), clientId, sharedSecret, authHost: host });
  const inventory = new ModifyInventoryApi(configuration);
  const jobs = new InventoryJobApi(configuration);

  const items = [
    { sku: "A", quantity: 7 },
    { upc: "B", quantity: 0, safetyStock: 1 },
  ];
  const accepted = await inventory.refresh({ refreshRequest: { locationCode: location, items } });
  print("refresh", accepted);

  let job = await jobs.getJob({ jobID: accepted.jobID });
  while (!JOB_ENDS.includes(job.status)) {
    await new Promise((resolve) => setTimeout(resolve, 50));
    job = await jobs.getJob({ jobID: accepted.jobID });
  }
  print("getJob", job);
  print("getJobs", await jobs.getJobs({ locationCode: location, types: ["REFRESH"], limit: 100 }));

  const tagged = { locationCode: location, items: [{ sku: "A", quantity: 8, tags: { Channel: "Web" } }] };
  print("smart refresh", await inventory.smartRefreshInventory({ refreshRequest: tagged }));

  try {
    await inventory.refresh({ refreshRequest: { locationCode: location, items: [{ sku: "A", quantity: -1 }] } });
  } catch (error) {
    print("refused", { status: error.response.status, message: error.message, errorCode: error.apiError.errorCode });
  }
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
