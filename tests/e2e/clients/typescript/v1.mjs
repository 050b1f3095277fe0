// The TypeScript SDK's first major version: legacy protocol only.
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';

import { drive } from './driver.mjs';

await drive({
  async connect({ url, headers }, fetch) {
    const client = new Client({ name: 'typescript-v1', version: '1.0.0' });
    const transport = new StreamableHTTPClientTransport(new URL(url), {
      fetch,
      requestInit: { headers }
    });
    await client.connect(transport);
    return client;
  },
  callTool: (client, params, options) => client.callTool(params, undefined, options)
});
