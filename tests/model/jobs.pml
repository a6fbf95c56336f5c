/* jobs.pml: a job has one end, and its status tells the same story as the place of its item
 * (prelude.lua: mark, make_job; submit.lua, hint.lua, and every script that moves an item).
 *
 * One job, and ITEMS items under it: one that was submitted, and with ITEMS=2 a second one that
 * somebody pushed by hand under the same id. Workers claim, settle, park, release and dead-letter;
 * they die; operators cancel and replay; the hash expires. Copies of a settle, a hint, a cancel and
 * a submission stay on dead connections and arrive late.
 *
 * With CALLBACK the job has one, and a presigned URL that may expire. Each of its ends has exactly
 * one notification, which waits, is in flight, dead or delivered; where conserver:notifications is
 * no list (blocked), there is no end. Notifiers claim notifications, die, give up; operators replay
 * them.
 *
 * Each script is one d_step: Redis runs it in one piece.
 */
#ifndef ITEMS
#define ITEMS 1
#endif
#ifndef LATE
#define LATE 2
#endif
#ifndef CALLBACK
#define CALLBACK 0
#endif
#define EPOCHS 3
/* places of an item */
#define NOWHERE 0
#define QUEUE 1                    /* as a bare payload */
#define RETURNED 2                 /* as a record, in returned or suspects */
#define FLIGHT 3
#define PARKED 4
#define DEAD 5
#define GONE 6                     /* settled or cancelled */
/* statuses of the job */
#define QUEUED 1
#define PROCESSING 2
#define WAITING 3
#define COMPLETED 4
#define CANCELLED 5
#define FAILED 6
#define is_end(s) ((s)>=COMPLETED)

/* ---- Redis ---- */
bit known; byte status;            /* the hash */
byte place[2], epoch[2];
bit named[2];                      /* the payload has #job behind its uuid, or the token has */
bit record[2];                     /* it was claimed before: it has a token */
bit cancelled[2];                  /* its token is among those that an operator has cancelled */
bit callback;                      /* the hash has one; a hash made by a claim has none */
bit blocked;                       /* conserver:notifications holds another type */
byte waits_d, flight_d, dead_d, told_d; /* notifications, by place; told_d: settled */

/* ---- ghosts, and what is on its way ---- */
byte submitted, expiries = 1, replays = 1, lates = LATE;
byte blocks = 1, deaths = 1, replays_d = 1;
#define returns_d 1
byte late_settle[2], late_hint[2]; /* the epoch of a copy; 0: none */
bit late_cancel[2], late_submit;

byte ends_told;                    /* ends of the job that its callback is to be told of */

/* A change of the hash. What must hold of it: the hash was there, and the job had not ended. */
inline change(s) {
  assert(known && !is_end(status)); status=s;
  if :: callback && is_end(s) -> ends_told++ :: else fi
}
#ifdef M_UNTOLD_FAILURE
#define notifies(s) ((s)!=FAILED)
#else
#ifdef M_UNTOLD_CANCEL
#define notifies(s) ((s)!=CANCELLED)
#else
#define notifies(s) true
#endif
#endif
#ifdef M_TOLD_WITHOUT_END
#define is_new_end(s) is_end(s)
#else
#define is_new_end(s) (is_end(s) && fresh_end)
#endif
bit fresh_end;                     /* of the mark that runs */
/* An end pushes its notification, in the same script. */
inline tell(s) {
  if
  :: callback && is_new_end(s) && notifies(s) && !blocked -> waits_d++
  :: else
  fi;
  fresh_end=0
}
#ifdef M_END_UNTOLD
#define can_tell(i) true
#else
#define can_tell(i) (!(named[i] && known && callback && !is_end(status) && blocked))
#endif
#ifdef M_RESURRECT
#define is_there true
#else
#define is_there known
#endif
#ifdef M_TWO_ENDS
#define has_ended false
#else
#define has_ended (known && is_end(status))
#endif
inline mark(i,s) {
  if :: named[i] && is_there && !has_ended -> change(s); fresh_end=is_end(s) :: else fi;
  if :: named[i] && known -> tell(s) :: else fresh_end=0 fi
}
/* An item that lives keeps its job unfinished, and an item that has ended ends it. */
#define lives(i) (place[i]!=NOWHERE && place[i]!=DEAD && place[i]!=GONE)
#define told(i) ( \
  (place[i]!=QUEUE || status==QUEUED) && (place[i]!=RETURNED || status==QUEUED) && \
  (place[i]!=FLIGHT || status==PROCESSING) && (place[i]!=PARKED || status==WAITING) && \
  (place[i]!=DEAD || status==FAILED) && \
  (place[i]!=GONE || status==COMPLETED || status==CANCELLED))
inline check() {
  if
  :: known && ITEMS==1 -> assert(place[0]==NOWHERE || told(0))
  :: known && ITEMS==2 -> assert(lives(0) || lives(1) || is_end(status))
  :: else
  fi;
  assert(ends_told == waits_d+flight_d+dead_d+told_d)
}

#ifdef M_SUBMIT_TWICE
#define is_new true
#else
#define is_new (!known)
#endif
inline submit() {
  if
  :: is_new ->
     if :: !known -> known=1; status=QUEUED; callback=CALLBACK :: else fi;
     submitted++; assert(submitted==1);
     place[0]=QUEUE; named[0]=1
  :: else
  fi
}
#ifdef M_JOB_LOST
#define stays_named 0
#else
#define stays_named 1
#endif
inline claim(i) {
  if
  :: !record[i] && named[i] ->
     named[i]=stays_named;
     if :: !known && named[i] -> known=1; status=QUEUED :: else fi
  :: else
  fi;
  record[i]=1; epoch[i]++; place[i]=FLIGHT; mark(i,PROCESSING)
}
#define fence(i,e) (place[i]==FLIGHT && epoch[i]==(e))
#ifdef M_END_UNFENCED
#define passes(i,e) true
#else
#define passes(i,e) fence(i,e)
#endif
#ifdef M_NO_END
#define ends false
#else
#define ends true
#endif
inline settle(i,e) {
  if
  :: can_tell(i) ->
     if :: passes(i,e) && ends -> mark(i,COMPLETED) :: else fi;
     if :: fence(i,e) -> place[i]=GONE :: else fi
  :: else
  fi
}
#ifdef M_HINT_UNFENCED
#define may_hint(i,e) (status==PROCESSING)
#else
#ifdef M_HINT_AFTER_END
#define may_hint(i,e) fence(i,e)
#else
#define may_hint(i,e) (fence(i,e) && status==PROCESSING)
#endif
#endif
inline hint(i,e) {
  if
  :: named[i] && known && may_hint(i,e) -> assert(fence(i,e) && status==PROCESSING)
  :: else
  fi
}
#define waits(i) (place[i]==QUEUE || place[i]==RETURNED || place[i]==PARKED)
#ifdef M_CANCEL_ALWAYS
#define removed(i) true
#else
#define removed(i) waits(i)
#endif
inline cancel(i) {
  if
  :: can_tell(i) ->
     if :: removed(i) -> mark(i,CANCELLED) :: else fi;
     if :: waits(i) -> place[i]=GONE :: else fi
  :: else
  fi
}
#ifdef M_NO_FAILURE
#define fails false
#else
#define fails true
#endif
inline give_up(i) { place[i]=DEAD; if :: fails -> mark(i,FAILED) :: else fi }
#ifdef M_RELEASE_FORGETS
#define keeps_name 0
#else
#define keeps_name named[i]
#endif
/* Released without progress: a bare payload again, with its job behind it. */
inline release(i) { place[i]=QUEUE; record[i]=0; mark(i,QUEUED); named[i]=keeps_name }
#ifdef M_CANCEL_UNENDED
#define ends_cancelled false
#else
#define ends_cancelled true
#endif
inline death(i) {
  if
  :: cancelled[i] ->
     place[i]=GONE; if :: ends_cancelled -> mark(i,CANCELLED) :: else fi
  :: else -> place[i]=RETURNED; mark(i,QUEUED)
  fi
}
#ifdef M_NO_REOPEN
#define reopens false
#else
#ifdef M_REOPEN_ANY
#define reopens true
#else
#define reopens (status==FAILED)
#endif
#endif
inline replay(i) {
  place[i]=RETURNED;
  if :: named[i] && known && reopens -> assert(status==FAILED); status=QUEUED :: else fi
}

#define ITEM(i) \
  :: d_step { (place[i]==QUEUE || place[i]==RETURNED) && epoch[i]<EPOCHS -> claim(i); check() } \
  :: d_step { place[i]==FLIGHT -> settle(i,epoch[i]); check() } \
  :: d_step { place[i]==FLIGHT && lates>0 && late_settle[i]==0 -> \
              lates--; late_settle[i]=epoch[i] } \
  :: d_step { late_settle[i]!=0 -> settle(i,late_settle[i]); late_settle[i]=0; check() } \
  :: d_step { place[i]==FLIGHT && lates>0 && late_hint[i]==0 -> lates--; late_hint[i]=epoch[i] } \
  :: d_step { late_hint[i]!=0 -> hint(i,late_hint[i]); late_hint[i]=0; check() } \
  :: d_step { waits(i) -> cancel(i); check() } \
  :: d_step { waits(i) && lates>0 && !late_cancel[i] -> lates--; late_cancel[i]=1 } \
  :: d_step { late_cancel[i] -> cancel(i); late_cancel[i]=0; check() } \
  :: d_step { place[i]==FLIGHT -> place[i]=PARKED; mark(i,WAITING); check() } \
  :: d_step { place[i]==PARKED -> place[i]=RETURNED; mark(i,QUEUED); check() } \
  :: d_step { place[i]==FLIGHT && can_tell(i) -> give_up(i); check() } \
  :: d_step { place[i]==FLIGHT -> release(i); check() } \
  :: d_step { place[i]==FLIGHT && !cancelled[i] -> cancelled[i]=1 } \
  :: d_step { place[i]==FLIGHT && (!cancelled[i] || can_tell(i)) -> death(i); check() } \
  :: d_step { place[i]==DEAD && replays>0 -> replays--; replay(i); check() }

init {
  do
  :: d_step { submitted==0 -> submit(); check() }
  :: d_step { submitted==1 && lates>0 && !late_submit -> lates--; late_submit=1 }
  /* A late submission of a job whose hash has expired is a new one: that is what max_s is for. */
  :: d_step { late_submit && known -> submit(); late_submit=0; check() }
  :: d_step { late_submit && !known -> late_submit=0 }
  :: d_step { ITEMS==2 && place[1]==NOWHERE && submitted==1 -> place[1]=QUEUE; named[1]=1; check() }
  :: d_step { known && expiries>0 -> expiries--; known=0; callback=0 }
  :: d_step { CALLBACK && blocks>0 && !blocked && waits_d==0 -> blocks--; blocked=1 }
  :: d_step { blocked -> blocked=0 }
  /* A notification is an item like any other: queue.pml has its life; here only its places. */
  :: d_step { waits_d>0 -> waits_d--; flight_d++; check() }
  :: d_step { flight_d>0 && deaths>0 -> deaths--; flight_d--; waits_d=waits_d+returns_d; check() }
  :: d_step { flight_d>0 -> flight_d--; told_d++; check() }
  :: d_step { flight_d>0 -> flight_d--; dead_d++; check() }
  :: d_step { dead_d>0 && replays_d>0 -> replays_d--; dead_d--; waits_d++; check() }
  ITEM(0)
  ITEM(1)
  :: else -> break
  od
}
