// What an app server sends to the service when asked by HTTP: requests for which hub methods have no call.

const path = (...parts) => parts.map(encodeURIComponent).join('/');
const query = (parameters) => {
  const given = Object.entries(parameters).filter(([, value]) => value !== undefined);
  return given.length === 0 ? '' : `?${new URLSearchParams(given)}`;
};

export class Management {
  constructor(app) {
    this.app = app;
  }

  // `what` is 'conn', 'user' or 'group'.
  exists(what, id) {
    return this.#ask(`exists/${path(what, id)}`);
  }

  isUserInGroup(user, group) {
    return this.#ask(`ingroup/${path(user, group)}`);
  }

  userJoins(user, group, { ttl } = {}) {
    return this.#ask(`userjoin/${path(user, group)}${query({ ttl })}`);
  }

  // From all groups without one.
  userLeaves(user, group) {
    return this.#ask(`userleave/${path(...(group === undefined ? [user] : [user, group]))}`);
  }

  // `what` is 'conn', 'user', 'group' or 'all', which needs no id.
  close(what, id, { reason, except } = {}) {
    const target = id === undefined ? path(what) : path(what, id);
    return this.#ask(`close/${target}${query({ reason, except: except?.join(',') })}`);
  }

  // As a list of pages, each a list of { connectionId, userId }.
  async members(group, { top, page } = {}) {
    return JSON.parse(await this.app.call(`/mgmt/members/${path(group)}${query({ top, page })}`));
  }

  // An ack of 1 or 2; anything else is an error.
  async #ask(pathAndQuery) {
    return { true: true, false: false }[await this.app.call(`/mgmt/${pathAndQuery}`)];
  }
}
