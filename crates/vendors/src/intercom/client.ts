// Passes events to Intercom's Messenger, which has no event ids.

import type { Adapter } from "../../../../static/sdk/src/parts/clients";

const page = window as any;

const known = (traits: Record<string, any> = {}) => {
  const { email, name, phone, createdAt, ...rest } = traits;
  return { ...rest, ...(email && { email }), ...(name && { name }), ...(phone && { phone }) };
};

const adapter: Adapter = {
  prepare({ app_id }) {
    if (!page.Intercom) {
      const calls: any = function () {
        calls.c(arguments);
      };
      calls.q = [];
      calls.c = (call: unknown) => calls.q.push(call);
      page.Intercom = calls;
    }
    page.intercomSettings = { ...page.intercomSettings, app_id };
    page.Intercom("boot", page.intercomSettings);
  },
  send({ type, event, userId, groupId, properties, traits }, { app_id }) {
    const { Intercom } = page;
    if (type === "track") Intercom("trackEvent", event, properties);
    else if (type === "page") Intercom("update");
    else if (type === "identify") Intercom("update", { ...known(traits), ...(userId && { user_id: userId }) });
    else if (type === "group") Intercom("update", { company: { ...traits, company_id: groupId } });
    else if (type === "reset") {
      Intercom("shutdown");
      Intercom("boot", { app_id });
    }
  },
};

page.tagway.client("intercom", adapter);
