//! The meaning of every reason for which a request is refused or an event is dropped before the journal. The
//! reference is printed from this table, and a tidy test compares it with the codes in the source.

/// The code and meaning of each reason, in alphabetical order.
pub const REJECTIONS: &[(&str, &str)] = &[
    ("bad_encoding", "The body does not match its `Content-Encoding`."),
    ("bad_write_key", "The write key or the server token is missing or wrong."),
    ("bot", "The sender is a program, and the site has `bots = \"drop\"`."),
    ("broken_body", "The body ended early."),
    ("busy", "More events wait for the disk than `journal.queue_bytes_max` allows; retry later."),
    ("closing", "The gateway is shutting down; retry later."),
    ("field_too_long", "An id or a name is longer than `limits.field_bytes`."),
    ("foreign_origin", "The page's origin is not one of the site's `origins`."),
    (
        "forgotten",
        "The person asked to be forgotten; the sender gets the answer of an accepted event.",
    ),
    (
        "invalid",
        "None of the messages can be accepted; the member `rejected` of the answer gives the reasons.",
    ),
    (
        "journal_full",
        "`journal.max_bytes` and `journal.spare_bytes` are used up: raise them, or retry later.",
    ),
    ("malformed", "The body, or a message in it, is not JSON of the expected form."),
    ("method", "405: the path does not accept the request's method."),
    ("missing_event", "A track message has no event name."),
    ("missing_group_id", "A group message has no `groupId`."),
    ("missing_previous_id", "An alias message has no `previousId`."),
    ("missing_user_id", "An alias message has no `userId`."),
    (
        "overloaded",
        "`requests_in_flight`, `arriving_bytes`, `inflating_bytes` or the threads for decoding are used up; retry later.",
    ),
    ("prefetch", "The browser loads the page in advance, and no visitor sees it yet."),
    ("rate_limited", "A rate limit is exceeded; `Retry-After` gives the time to wait."),
    ("too_large", "The body or a message is longer than `limits` allow."),
    ("too_many_events", "The body has more than `limits.batch_events` messages."),
    ("too_slow", "The body took longer than `limits.body_time`."),
    ("unknown_encoding", "The `Content-Encoding` is not gzip, deflate, br or zstd."),
    ("unknown_host", "No site has this host."),
    ("unknown_route", "No route has this path."),
    ("unread", "`GET /me` cannot read the visitor's profile now; retry later."),
    ("unwritable", "The journal cannot be written now; retry later."),
];
