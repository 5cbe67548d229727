"""Every default number of the library, with its unit, its reason and its source. Data only."""

# --- Data-key cache ---------------------------------------------------------------------------

CACHE_MAX_AGE_SECONDS = 300.0
"""How long a revoked role can still open what it opened before: five minutes, the
lifetime that IAM changes and AWS clients' own credential caches make us used to."""

CACHE_MAX_MESSAGES = 1 << 24
"""16.8 million values a data key. With random 96-bit nonces the chance of any
collision stays below 2^-49, against the 2^-32 that NIST SP 800-38D, section 8.3, allows."""

CACHE_MAX_BYTES = 1 << 34
"""16 GiB under one data key: 2^30 AES blocks, where the distinguishing advantage of
GCM (about blocks squared / 2^128) is below 2^-67."""

CACHE_MAX_ENTRIES = 8192
"""Data keys held for sealing, and as many for opening: 3.3 kilobytes each as measured, so that
either takes at most 27 MiB."""

CACHE_EVICTION_SAMPLE = 8
"""Data keys drawn by lot when one has to go; the least used of them does. With five to ten the
choice is close to the least used of all (the sampling of Redis, and its documentation)."""

CACHE_MAX_FORMS = 65_536
"""Wrapped forms that are known to hold their data key, 32 bytes and their place in a dictionary
each: some 8 MiB. Forgetting one costs a Decrypt."""

REFUSALS_KEPT_SECONDS = 30.0
"""How long the KMS is not asked again about a wrapped data key that it found altered or of another
context. Nothing mends such a value but writing it, which makes another wrapped key."""

REFUSALS_MAX_KEPT = 10_000
"""Half a kilobyte each."""

REVOCATIONS_READ_SECONDS = 60.0
"""How old the list of ``revoked_from`` may be when a data key is looked up."""

ALIAS_LOOKUP_SECONDS = 60.0
"""How often an envelope under an unknown KMS key may have the keyring's aliases looked up anew,
with a DescribeKey for each. An alias moves once in months; such envelopes can be made up."""

CEILING_MESSAGES = 1 << 32
"""NIST SP 800-38D, section 8.3: no more invocations with random nonces under one key."""

CEILING_BYTES = 1 << 36
"""2^32 AES blocks: the advantage stays below 2^-63."""

STRICT_MAX_AGE_SECONDS = 30.0
STRICT_MAX_MESSAGES = 1000
"""The short policy that is quoted most: 30 seconds or 1,000 messages, whichever is first."""

# --- AWS KMS ----------------------------------------------------------------------------------

AWS_CONNECT_TIMEOUT_SECONDS = 1.0
"""A KMS endpoint lies in the same Region, a few milliseconds away. botocore's own default
is 60 s (botocore.config.Config), for which a database transaction must not be held open."""

AWS_READ_TIMEOUT_SECONDS = 3.0
"""KMS answers in tens of milliseconds, and a key in an external key store within the 250 ms
that its proxy is given (AWS KMS developer guide, external key stores)."""

AWS_MAX_ATTEMPTS = 3
"""The first try counts; botocore's own default for its "standard" mode. With both timeouts
and its waits (at most 1 s, then 2 s) a dead endpoint is given up after 15 s at most."""

AWS_POOL_CONNECTIONS = 10
"""Connections kept a client, botocore's own default: threads that miss the cache at once."""

AWS_REGION_PAUSE_SECONDS = 30.0
"""How long a Region that was unavailable is tried after its replicas; twice the longest call."""

AWS_ROLE_SESSION_NAME = "sqlalchemy-kmsenv"
"""What CloudTrail shows of a role where nobody chose a name."""

AWS_RETRY_MODE = "standard"
"""The mode that all AWS SDKs have in common; "adaptive" adds a client-side rate limit, which
botocore documents as experimental."""

# --- Jobs over whole tables -------------------------------------------------------------------

REWRAP_BATCH_ROWS = 1000
"""Rows of a page and of a transaction: locks are held for some 10 ms, and the two round trips
of a page are a small part of its time."""

REWRAP_PREFIX_BYTES = 512
"""What is read of each value: a header with AWS's wrapped data keys takes 239 bytes."""

REWRAP_WHOLE_VALUE_BYTES = 8192
"""Values up to here are read with their page where they are opened; larger ones by themselves."""

REWRAP_CHUNK_BYTES = 8 << 20
"""Values that are opened and sealed in one transaction, if they are large."""

REWRAP_CACHE_ENTRIES = 10_000
"""Data keys wrapped anew that are remembered, a kilobyte each."""

REWRAP_KMS_PATIENCE_SECONDS = 60.0
"""Throttling passes within seconds; what lasts longer is an outage, and a matter for people."""

REWRAP_KMS_FIRST_WAIT_SECONDS = 0.1
REWRAP_KMS_LONGEST_WAIT_SECONDS = 5.0
"""Waits double from the first to the longest, each shortened at random by up to a half."""

REWRAP_GIVE_UP_AFTER_ROWS = 100
"""A denied tenant or two are rows' matters; a hundred refusals in a row are the job's."""

REWRAP_DATABASE_TRIES = 6
REWRAP_DATABASE_FIRST_WAIT_SECONDS = 0.1
"""A page that is rolled back (deadlock, lost connection) is tried again, the waits doubling:
3 seconds in all."""

REWRAP_LOCK_WAIT_SECONDS = 0.25
"""Below PostgreSQL's deadlock_timeout (1 s): where a job waits at all, it is the one to give up."""

REWRAP_LOCK_ROUNDS = 6
REWRAP_LOCK_FIRST_WAIT_SECONDS = 0.1
"""How often a job comes back to rows that others hold, the waits doubling: 3 seconds in all."""

REWRAP_HELD_ROWS = 1000
"""Rows that a partition comes back to; what is held beyond that is reported at once."""

REWRAP_SLICE_SECONDS = 1.0
"""How long a worker goes on before it reports, where there are several."""

REWRAP_EXECUTOR_PARTITIONS = 8
REWRAP_PREFLIGHT_CONTEXTS = 20
"""Encryption contexts that the preflight asks about, of those in the first page."""
