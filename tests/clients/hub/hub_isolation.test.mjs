// Two hubs of one app server: same users, same groups, nothing leaks.

import { after, test } from 'node:test';
import assert from 'node:assert/strict';
import { Rig, protocols } from '../support/rig.mjs';
import { fence } from '../support/client.mjs';

const rig = await Rig.start();
after(() => rig.stop());

for (const protocol of protocols) {
  test(`${protocol}: broadcasts, groups, users and connections of one hub don't reach the other`, async () => {
    const user = `same-${protocol}`;
    const chat = await rig.client({ protocol, user, hub: 'chat' });
    const second = await rig.client({ protocol, user, hub: 'second' });
    for (const client of [chat, second]) await client.invoke('Join', 'same group');

    await chat.invoke('Broadcast', 'in chat');
    await chat.invoke('ToGroup', 'same group', 'in chat');
    await chat.invoke('ToUser', user, 'in chat');
    // Microsoft's SDK finds a client of its own process by id, whatever hub it is of, and sends on that client's own server connection:
    // the service sees a message of the other hub and cannot tell.
    if (rig.app.kind !== 'sdk') await chat.invoke('ToConn', second.id, 'in chat');
    await second.invoke('Broadcast', 'in second');
    await fence(chat, [chat]);
    await fence(second, [second]);

    const foreign = (client, text) => client.inbox.items.filter((item) => item.text === text);
    assert.deepEqual(foreign(second, 'in chat'), []);
    assert.deepEqual(foreign(chat, 'in second'), []);
    assert.deepEqual(foreign(chat, 'in chat').map((item) => item.kind), ['all', 'group', 'user']);
  });
}

test('no relay crossed a shard', () => rig.assertNoRelayCrossed());
