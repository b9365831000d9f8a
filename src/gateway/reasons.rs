//! The meaning of every reason for which a request is refused or an event is dropped before the journal.
//! The reference is printed from this table, and a tidy test holds it to the codes in the source.

/// Code and meaning of each reason, in the order of the alphabet.
pub const REJECTIONS: &[(&str, &str)] = &[
    ("bad_encoding", "The body is not what its `Content-Encoding` says."),
    ("bad_write_key", "The write key or the server token is missing or wrong."),
    ("bot", "The sender is a program, and the site has `bots = \"drop\"`."),
    ("broken_body", "The body ended before its time."),
    ("busy", "More waits for the disk than `journal.queue_bytes_max` allows; come again."),
    ("closing", "The gateway is shutting down; come again."),
    ("field_too_long", "An id or a name is longer than `limits.field_bytes`."),
    ("foreign_origin", "The page is none of the site's `origins`."),
    ("forgotten", "The person asked to be forgotten; the sender is told that it was accepted."),
    ("invalid", "None of the messages can be accepted; `rejected` says why of each."),
    ("journal_full", "The journal takes up all the disk that `journal.max_bytes` allows."),
    ("malformed", "The body, or a message in it, is not JSON of the expected form."),
    ("method", "The path does not take this method."),
    ("missing_event", "A track message has no event's name."),
    ("missing_group_id", "A group message has no `groupId`."),
    ("missing_previous_id", "An alias message has no `previousId`."),
    ("missing_user_id", "An alias message has no `userId`."),
    ("overloaded", "More requests or bodies are under way than there is room for; come again."),
    ("prefetch", "The browser loads the page in advance, and nobody looks at it."),
    ("rate_limited", "A rate limit is used up; `Retry-After` says when to come again."),
    ("too_large", "The body or a message is longer than `limits` allow."),
    ("too_many_events", "More than `limits.batch_events` messages."),
    ("too_slow", "The body took longer than `limits.body_time`."),
    ("unknown_encoding", "The `Content-Encoding` is none of gzip, deflate, br and zstd."),
    ("unknown_host", "No site has this host."),
    ("unknown_route", "There is nothing at this path."),
    ("unread", "The profiles cannot be read now; come again."),
    ("unwritable", "The journal cannot be written now; come again."),
];
