/* One entry: claim, resume, finish, fail, release. Processes that crash, writes of dead connections and dead processes
   that the server applies later or never, requests that are written again while a job runs, customers who log in.
   DAEMONS=2: daemons that share the account by CLAIM.
   An entryCSN is only ever compared for equality with the entry's, so each copy of it is one bit: still the entry's.
   That keeps the model finite with any number of writes. */
#include "protocol.pml"
#ifndef DAEMONS
#define DAEMONS 1
#endif
#ifndef REQUESTS
#define REQUESTS 2      /* requests that operators write */
#endif
#ifndef CRASHES
#define CRASHES 2
#endif
#ifndef BREAKS
#define BREAKS 2        /* connections that break under a write */
#endif
#ifndef LOGINS
#define LOGINS 1        /* logins before the daemon's next pause; with UNLIMITED any number in all */
#endif
#ifndef TRIES
#define TRIES 3         /* writes at once before a pause */
#endif
#define LATE 2          /* writes that are still on their way */
#ifdef NO_CLAIM
#define SHARED false
#else
#define SHARED (DAEMONS == 2)
#endif

mtype phase = done;
byte request;           /* the number of the request that the entry carries: represents its values */
byte holder, token;     /* the CLAIM attribute: daemon + 1 and its random token; 0: absent */
bool current[2];        /* the entryCSN that this daemon has read is still the entry's */

typedef Write { mtype kind = none; byte request; byte holder; byte token }
Write late[LATE];       /* with an entryCSN that is still the entry's, or without one */

byte running, disk;     /* jobs at work; the request that was carried out last */
byte requests, crashes, breaks, logins;
bool gone[2];           /* a daemon that never comes back */

#define pending (phase == requested || phase == claimed)
#define me1 (SHARED * (me + 1))
#ifdef NO_CLAIM_CHECK
#define foreign (SHARED && phase == claimed && holder != 0 && holder != me1)
#else
#ifdef NO_OWN_CLAIM
#define foreign (SHARED && holder != 0 && (holder != me1 || phase == requested))
#else
#define foreign (SHARED && holder != 0 && holder != me1)
#endif
#endif

#ifdef NO_ASSERT_CSN
#define CLAIM_ASSERTS false
#else
#define CLAIM_ASSERTS true
#endif
#ifdef FINISH_BY_MODE
#define FINISH_ASSERTS false
#else
#define FINISH_ASSERTS true
#endif
#define asserts(k) ((k) == resume || (k) == claim && CLAIM_ASSERTS || ((k) == finish || (k) == fail) && FINISH_ASSERTS)

#ifdef RETRY_BY_MODE
#define HOLDS(h, t) true
#else
#define HOLDS(h, t) (!SHARED || holder == (h) && token == (t))
#endif
#ifdef UNLIMITED
#define afterPause 0
#else
#define afterPause logins
#endif

/* Every write gives the entry another entryCSN: writes on their way that assert the old one are refused from now on. */
inline changed() {
  current[0] = false; current[1] = false;
  i = 0;
  do
  :: i < LATE ->
     if
     :: late[i].kind != none && asserts(late[i].kind) -> forget(i)
     :: else
     fi;
     i++
  :: else -> break
  od;
  i = 0
}

inline forget(n) { late[n].kind = none; late[n].request = 0; late[n].holder = 0; late[n].token = 0 }

/* The server: one modify, all or nothing. */
inline apply(k, fresh, r, h, t) {
  ok = (!asserts(k) || fresh);
  if
  :: k == claim -> ok = ok && phase == requested
  :: k == resume -> ok = ok && phase == claimed
  :: k == finish || k == fail -> ok = ok && (phase == claimed || phase == failed) && HOLDS(h, t)
  :: k == release -> ok = ok && holder == h && token == t
  fi;
  if
  :: ok ->
     if
     :: k == claim -> phase = claimed; holder = h; token = t
     :: k == resume ->
#ifndef RESUME_WITHOUT_CLAIM
        holder = h; token = t;
#endif
        skip
     :: k == finish || k == fail ->
        if
        :: r != request -> wrongOutcome = true
#ifndef WRONG_RELEASE
        :: running > 0 -> wrongOutcome = true
        :: k == finish && disk != request -> wrongOutcome = true
#endif
        :: else
        fi;
        if :: k == finish -> phase = done :: else -> phase = failed fi;
        holder = 0; token = 0
     :: k == release -> holder = 0; token = 0
     fi;
     changed()
  :: else
  fi
}

/* A write and its reply; or the connection or the process dies, and the write is on its way. */
inline send(k) {
  if
  :: atomic {
       apply(k, current[me], job, me1, mine);
       if :: ok -> result = written; current[me] = true :: else -> result = lost; current[me] = false fi;
       ok = false; safe
     }
  :: atomic { breaks < BREAKS && (late[0].kind == none || late[1].kind == none) -> breaks++; keep(k); result = unknown }
  :: atomic { crashes < CRASHES && (late[0].kind == none || late[1].kind == none) -> crashes++; keep(k); goto died }
  fi
}
inline keep(k) {
  if
  :: asserts(k) && !current[me]           /* is refused, whenever it arrives */
  :: else ->
     if :: late[0].kind == none -> i = 0 :: else -> i = 1 fi;
     late[i].kind = k; late[i].request = job; late[i].holder = me1; late[i].token = mine; i = 0
  fi
}

/* A token that this daemon has nowhere else: tokens are compared together with their holder. */
inline draw() {
  mine = 1;
#ifndef FIXED_TOKEN
  do
  :: holder == me1 && mine == token || mine == late[0].token && late[0].holder == me1 -> mine++
  :: mine == late[1].token && late[1].holder == me1 -> mine++
  :: else -> break
  od
#endif
}

inline pause() {
  tries++;
  if :: tries >= TRIES -> tries = 0; logins = afterPause :: else fi
}
proctype Daemon(byte me) {
  byte job, mine, tries, i;     /* job: the request as it was read */
  mtype result, outcome = none; bool ok, doubtful;

idle:
  atomic { job = 0; mine = 0; current[me] = false; doubtful = false; outcome = none; result = lost };
  /* Level-triggered: an entry that asks for something is read, again and again. */
end:
  atomic {
    (pending && !foreign) ->
    current[me] = true; job = request;
    if
#ifdef RESUME_KEEPS_TOKEN
    :: phase == claimed && holder == me1 -> mine = token
#endif
#ifdef RESUME_WITHOUT_CLAIM
    :: phase == claimed -> mine = token
#endif
    :: else -> if :: SHARED -> draw() :: else fi
    fi;
    if :: phase == requested -> goto claiming :: else -> goto resuming fi
  };

claiming:
  send(claim);
  if
  :: atomic { result == written -> result = lost; tries = 0; doubtful = false; goto work }
  :: atomic { result == unknown -> result = lost; doubtful = true; goto claiming }
  :: atomic { result == lost ->
       pause();
       if
       :: doubtful && phase == claimed && holder == me1 && token == mine ->   /* EntryWrite.isFulfilled */
          current[me] = true; doubtful = false; goto work
       :: else -> goto idle
       fi }
  fi;

resuming:
#ifndef RESUME_WITHOUT_WRITE
  send(resume);
  if
  :: atomic { result == written -> result = lost; tries = 0; goto work }
  :: atomic { result == unknown -> result = lost; goto resuming }
  :: atomic { result == lost -> pause(); goto idle }
  fi;
#endif

work:
  atomic {
    running++; logins = afterPause;    /* work takes time */
#ifndef WRONG_RELEASE
    if :: running > 1 -> twoJobs = true :: else fi;
#endif
    safe };
  if
  :: atomic { running--; disk = job; outcome = finish }
  :: atomic { running--; outcome = fail }
  :: atomic { crashes < CRASHES -> crashes++; running--; goto died }   /* a crash ends the scripts, too */
  fi;

ended:
  send(outcome);
  if
  :: atomic { result == written -> result = lost; tries = 0; goto idle }
  :: atomic { result == unknown -> result = lost; goto ended }
  :: atomic { result == lost ->
       pause();
#ifdef NO_RETRY
       goto idle;
#endif
       /* read by entryUUID */
       if
       :: phase == claimed && HOLDS(me1, mine) -> current[me] = true; goto ended
       :: else ->
          if
          :: SHARED && holder == me1 && token == mine -> goto releasing      /* the request was written again */
          :: else -> goto idle
          fi
       fi }
  fi;

releasing:
#ifdef NO_RELEASE
  goto idle;
#endif
  send(release);
  if
  :: atomic { result == unknown -> result = lost; goto releasing }
  :: atomic { result != unknown -> goto idle }
  fi;

died:
  atomic { job = 0; mine = 0; current[me] = false; doubtful = false; outcome = none; result = lost; tries = 0 };
  if
  :: atomic { SHARED && !gone[1 - me] -> gone[me] = true };
     if
     :: goto over
     :: atomic { gone[me] = false; goto idle }       /* came back after all */
     fi
  :: goto idle
  fi;
over:
  skip
}

/* Self-service pages and operators. They know nothing of CLAIM: it stays in the entry. */
proctype Operator() {
  byte i;
  do
  :: atomic { requests < REQUESTS -> requests++; phase = requested; request = requests; changed() }
  :: requests == REQUESTS -> break
  od;
}

/* accounts release UID: for a holder that is gone. WRONG_RELEASE: once also for one that still works; that two jobs
   overlap then cannot be helped, but no outcome may go wrong. */
proctype Releaser() {
  byte i;
#ifdef WRONG_RELEASE
  if
  :: atomic { holder != 0 -> holder = 0; token = 0; changed() }
  :: skip
  fi;
#endif
end:
  do
  :: atomic { holder != 0 && gone[holder - 1] -> holder = 0; token = 0; changed() }
  od
}

/* lastbind, and every other write that is none of the protocol's. */
proctype Customer() {
  byte i;
end:
  do
  :: atomic { logins < LOGINS -> logins++; changed() }
  od
}

/* Writes on their way arrive, or never do. */
proctype Network() {
  byte n, i, rr, hh, tt; mtype kk = none; bool ok;
end:
  do
  :: atomic {
       if
       :: late[0].kind != none -> n = 0
       :: late[1].kind != none -> n = 1
       fi;
       if
       :: kk = late[n].kind; rr = late[n].request; hh = late[n].holder; tt = late[n].token; forget(n);
          apply(kk, true, rr, hh, tt); kk = none; rr = 0; hh = 0; tt = 0
       :: forget(n)
       fi;
       n = 0; ok = false; safe
     }
  od
}

init {
  atomic {
    run Operator(); run Network(); run Customer();
    run Daemon(0);
    if :: DAEMONS == 2 -> run Daemon(1); run Releaser() :: else fi
  }
}

/* Property 1, and with UNLIMITED property 4: each request is answered, or superseded by the next of finitely many. */
ltl answered { [] <> !pending }
