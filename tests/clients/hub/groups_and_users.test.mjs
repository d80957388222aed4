// Who is in a group, who is a user, and that nobody else is reached.

import { after, test } from 'node:test';
import assert from 'node:assert/strict';
import { Rig, protocols } from '../support/rig.mjs';
import { fence } from '../support/client.mjs';

const rig = await Rig.start();
after(() => rig.stop());

for (const protocol of protocols) {
  const group = `group of ${protocol}`;

  test(`${protocol}: Join and Leave change the group at once`, async () => {
    const [member, sender] = await rig.clients(2, { protocol });
    assert.equal(await member.invoke('Join', group), 'joined');
    await sender.invoke('ToGroup', group, 'while in');
    assert.equal(await member.invoke('Leave', group), 'left');
    await sender.invoke('ToGroup', group, 'after leaving');
    await fence(sender, [member, sender]);
    assert.deepEqual(member.texts('group'), ['while in']);
    assert.deepEqual(sender.texts('group'), [], 'the sender is no member');
  });

  test(`${protocol}: a group message reaches each member once, ToGroupExcept all but the caller`, async () => {
    const [caller, member, outsider] = await rig.clients(3, { protocol });
    for (const client of [caller, member]) {
      await client.invoke('Join', group);
      await client.invoke('Join', group);
    }
    await caller.invoke('ToGroup', group, 'to members');
    await caller.invoke('ToGroupExcept', group, 'to the other members');
    await fence(caller, [caller, member, outsider]);
    assert.deepEqual(caller.texts('group'), ['to members']);
    assert.deepEqual(member.texts('group'), ['to members']);
    assert.deepEqual(member.texts('groupexcept'), ['to the other members']);
    assert.deepEqual(caller.texts('groupexcept'), []);
    assert.deepEqual([...outsider.texts('group'), ...outsider.texts('groupexcept')], []);
  });

  test(`${protocol}: group names are compared exactly, two groups don't mix`, async () => {
    const [upper, lower] = await rig.clients(2, { protocol });
    await upper.invoke('Join', `${group} A`);
    await lower.invoke('Join', `${group} a`);
    await upper.invoke('ToGroup', `${group} A`, 'upper');
    await upper.invoke('ToGroup', `${group} a`, 'lower');
    await upper.invoke('ToGroup', `${group} nobody is in`, 'lost');
    await fence(upper, [upper, lower]);
    assert.deepEqual(upper.texts('group'), ['upper']);
    assert.deepEqual(lower.texts('group'), ['lower']);
  });

  test(`${protocol}: a client that left the hub has left its groups`, async () => {
    const [sender, stays, goes] = await rig.clients(3, { protocol });
    for (const client of [stays, goes]) await client.invoke('Join', `${group} of two`);
    await goes.stop();
    const back = await rig.client({ protocol });
    await sender.invoke('ToGroup', `${group} of two`, 'who is left?');
    await fence(sender, [stays, back]);
    assert.deepEqual(stays.texts('group'), ['who is left?']);
    assert.deepEqual(back.texts('group'), []);
  });

  test(`${protocol}: ToUser reaches every connection of a user and no other`, async () => {
    const alices = await rig.clients(2, { protocol, user: `alice-${protocol}` });
    const bob = await rig.client({ protocol, user: `bob-${protocol}` });
    const nobody = await rig.client({ protocol });
    await bob.invoke('ToUser', `alice-${protocol}`, 'to alice');
    await bob.invoke('ToUser', `ALICE-${protocol}`, 'to nobody: user ids are compared exactly');
    await fence(bob, [...alices, bob, nobody]);
    for (const alice of alices) assert.deepEqual(alice.texts('user'), ['to alice']);
    for (const other of [bob, nobody]) assert.deepEqual(other.texts('user'), []);
  });
}

test('no relay crossed a shard', () => rig.assertNoRelayCrossed());
