/* Shared by the models: what an entry says, what the daemon writes, what must never happen.
   The names are those of the code: AccountPhase (`requested` is a request that is not claimed), EntryWrite. */
mtype = { requested, claimed, failed, done };
mtype = { none, claim, resume, finish, fail, refuse, release };
/* The result of a write: 0; 16 noSuchAttribute, 122 assertionFailed, 32 noSuchObject; no reply. */
mtype = { written, lost, unknown };

bool twoJobs;        /* property 2: two jobs at once on one home */
bool wrongOutcome;   /* property 3: an outcome in another entry, or for another request than the one worked on */
#define safe assert(!twoJobs); assert(!wrongOutcome)
