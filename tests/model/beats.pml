/* beats.pml: a host is declared dead when it is silent, and not when others do not hear it.
 *
 * One host that beats and WATCHERS that look (conserver/coordinator/reaper.py, class Watch, and
 * reap.lua), by a clock in ticks. A beat is due every BEAT ticks and a look every EVERY; LEASE and
 * LATE are those of the code. What can be done at once is done before the next tick, unless a fault
 * keeps it. A fault lasts as long as it likes; how many there are:
 *
 *          PAUSEH the host stands still    CUTH it has no network    KILL, BACK it dies, and starts
 *          PAUSEW a watcher stands still   CUTW its connection breaks
 *          FREEZE Redis stands still, and then does what was sent    AWAY Redis is away, and all
 *          connections break               SLOW ticks by which answers to looks are late
 *          LOST lost answers to reaps, and copies of them that arrive late
 *          COPIES of beats that arrive up to COPY_LATE ticks late
 *
 * 1. Whoever is reaped has had a fault of its own since its last beat, and that is a lease old
 *    (less COPY_LATE: a late copy of the beat before it can hide it).
 * 2. For a lease before it was seen for the last time, but for what can be OVERLOOKED between two
 *    looks, nothing was interrupted: no connection broke, and neither the watcher nor Redis stood
 *    still for longer than that.
 * 3. Who is silent is reaped, SOON after a lease without any fault of Redis or of a watcher.
 *
 * Beats never repeat. So a beat is known by whether it is still the one in Redis, and whether it is
 * that of the copy.
 */
#ifndef WATCHERS
#define WATCHERS 1
#endif
#ifndef LEASE
#define LEASE 7
#endif
#ifndef BEAT
#define BEAT 1
#endif
#ifndef EVERY
#define EVERY 1
#endif
#ifndef LATE
#define LATE 1
#endif
#ifndef PAUSEH
#define PAUSEH 0
#endif
#ifndef CUTH
#define CUTH 0
#endif
#ifndef KILL
#define KILL 0
#endif
#ifndef BACK
#define BACK 0
#endif
#ifndef PAUSEW
#define PAUSEW 0
#endif
#ifndef CUTW
#define CUTW 0
#endif
#ifndef FREEZE
#define FREEZE 0
#endif
#ifndef AWAY
#define AWAY 0
#endif
#ifndef SLOW
#define SLOW 0
#endif
#ifndef LOST
#define LOST 0
#endif
#ifndef COPIES
#define COPIES 0
#endif
#if COPIES
#define COPY_LATE 2
#else
#define COPY_LATE 0
#endif
#define OVERLOOKED (EVERY+3*LATE)  /* a late answer, a look that is late, and its late answer */
#define SOON (LATE+1+3*EVERY)      /* a look that fails, the first, the last, and the reap */
#define NEVER 255

byte host_pauses = PAUSEH, host_cuts = CUTH, kills = KILL, starts = BACK;
byte watcher_pauses = PAUSEW, watcher_cuts = CUTW, freezes = FREEZE, outages = AWAY;
byte slow_ticks = SLOW, losses = LOST, copies = COPIES;

/* ---- Redis ---- */
#define UP 0
#define FROZEN 1
#define GONE 2
byte redis = UP, frozen_for;
bit listed = 1;                    /* in conserver:hosts, and its hash is there */

/* ---- the host ---- */
bit dead, paused, cut;
bit sent;                          /* a beat is on its way; repeated until it is answered */
byte sent_for = BEAT;              /* since it was sent; the next one is due after BEAT */
bit connects;                      /* Redis is back, and it may be another tick until it knows */
byte still;                        /* ghost: for how long the beat has been the same */
bit copy; byte copy_age;           /* one that is late */
bit copy_is_sent, copy_is_it;      /* of the beat on its way, of that in Redis */
bit own_fault;                     /* ghost: it has had one since this beat */

/* ---- a watcher ---- */
#define RESTS 0
#define LOOKS 1
#define REAPS 2

typedef Watcher {
  byte does;
  bit paused; byte paused_for;
  bit broken;                      /* its connection is, which it will see when it uses it */
  byte rests_for;                  /* in its loop: since the last look or reap has ended */
  byte answered_for;               /* Watch._last_s; NEVER: None */
  bit seen; bit seen_is_it;        /* Watch._seen: a beat, and that it is the one in Redis */
  byte age;                        /* since it was first seen */
  /* the look that is on its way */
  byte asked_for; byte asked_after; byte asked_age;
  bit executed; bit found; bit found_seen; bit found_is_it;
  /* the reap that is on its way, and a copy of one */
  bit verdict_is_it; bit late_reap; bit late_is_it;
  byte clear;                      /* ghost: since the last interruption */
  bit seen_is_copy; bit found_is_copy; bit verdict_is_copy; bit late_is_copy;
  bit sure; bit verdict_sure; bit late_sure;       /* ghosts: that was a lease ago, and the beat */
  byte unseen                      /* ghost: since a fault of anybody but the host, or a beat */
};
Watcher w[WATCHERS];

#define up_to(most,x) x=((x)<(most) -> (x)+1 : (most))

inline not_it(v) {
  w[v].seen_is_it=0; w[v].found_is_it=0; w[v].verdict_is_it=0; w[v].late_is_it=0
}
#if COPIES
inline not_copy(v) {
  w[v].seen_is_copy=0; w[v].found_is_copy=0; w[v].verdict_is_copy=0; w[v].late_is_copy=0
}
inline is_copy(v) {                /* the beat of the copy is the one in Redis again */
  w[v].seen_is_it=w[v].seen_is_copy; w[v].found_is_it=w[v].found_is_copy;
  w[v].verdict_is_it=w[v].verdict_is_copy; w[v].late_is_it=w[v].late_is_copy
}
#endif
#if WATCHERS==2
#define FOR_ALL(what) what(0); what(1)
#define some(what) (what(0) || what(1))
#else
#define FOR_ALL(what) what(0)
#define some(what) what(0)
#endif
#define heard(v) w[v].unseen=0
#define breaks(v) w[v].broken=1; w[v].clear=0; w[v].unseen=0
#define interrupted(v) w[v].clear=0

/* ---- beat.lua, reap.lua ---- */
inline beat() {
  sent=0; connects=0; listed=1; still=0; own_fault=(paused||dead);
  FOR_ALL(not_it); FOR_ALL(heard);
  copy_is_it=copy_is_sent; copy_is_sent=0
}
#if COPIES
inline no_copy() { copy=0; copy_age=0; copy_is_sent=0; copy_is_it=0; FOR_ALL(not_copy) }
inline beat_late() {               /* no sign of life: the ghosts stay */
  listed=1; FOR_ALL(heard);
  if :: !copy_is_it -> FOR_ALL(is_copy) :: else fi;
  if :: copy_is_sent -> sent=0; still=0; own_fault=(paused||dead) :: else fi;
  no_copy()
}
#ifdef L_OLD_COPY                  /* a copy arrives more than a lease later, and hides any beat */
#define too_old false
#else
#define too_old (copy && copy_age>=COPY_LATE)
#endif
#define LATE_BEAT \
  :: d_step { sent && copies>0 && !copy && !dead -> copies--; copy=1; copy_is_sent=1 } \
  :: d_step { copy && redis==UP -> beat_late() } \
  :: d_step { copy -> no_copy() }
#else
#define too_old false
#define LATE_BEAT
#endif
#ifdef M_NO_COMPARE                /* the beat is not compared once more */
#define may_reap(is_it) listed
#else
#define may_reap(is_it) (listed && is_it)
#endif
inline reap(is_it,is_sure) {
  if
  :: may_reap(is_it) ->
     assert(still>=LEASE-COPY_LATE);
     assert(own_fault);
     assert(is_sure);
     listed=0; FOR_ALL(not_it); copy_is_it=0
  :: else
  fi
}

/* ---- class Watch ---- */
inline restart(v) {
  w[v].seen=0; w[v].seen_is_it=0; w[v].seen_is_copy=0; w[v].age=0; w[v].answered_for=NEVER
}
#ifdef M_LATE_LOOK                 /* it slept between two looks, and goes on */
#define late_look(v) false
#else
#define late_look(v) (w[v].asked_after!=NEVER && w[v].asked_after>EVERY+LATE)
#endif
#ifdef M_LATE_ANSWER               /* the answer took its time, and it goes on */
#define late_answer(v) false
#else
#define late_answer(v) (w[v].asked_for>LATE)
#endif
#ifdef M_STALE_REAP                /* the first beat that was seen is taken for the present one */
#define same_beat(v) w[v].seen
#else
#define same_beat(v) (w[v].seen && w[v].found_seen)
#endif
#ifdef M_FROM_ASKED                /* a new beat counts from the question, not from its answer */
#define new_age(v) w[v].asked_for
#else
#define new_age(v) 0
#endif
#ifdef M_BREAK_GOES_ON             /* a broken connection is no interruption */
#define restart_after_error(v) skip
#else
#define restart_after_error(v) restart(v)
#endif
inline forget_look(v) {
  w[v].asked_for=0; w[v].asked_after=0; w[v].asked_age=0; w[v].executed=0; w[v].found=0;
  w[v].found_seen=0; w[v].found_is_it=0; w[v].found_is_copy=0; w[v].sure=0; w[v].rests_for=0
}
inline hear(v) {
  if :: late_look(v) || late_answer(v) -> restart(v) :: else fi;
  w[v].answered_for=0; w[v].does=RESTS;
  if
  :: !w[v].found -> w[v].seen=0; w[v].seen_is_it=0; w[v].seen_is_copy=0; w[v].age=0
  :: w[v].found && same_beat(v) ->
     if
     :: w[v].asked_age>=LEASE ->
        w[v].does=REAPS; w[v].verdict_is_it=w[v].seen_is_it; w[v].verdict_sure=w[v].sure;
        w[v].verdict_is_copy=w[v].seen_is_copy
     :: else
     fi
  :: else ->
     w[v].seen=1; w[v].seen_is_it=w[v].found_is_it; w[v].age=new_age(v);
     w[v].seen_is_copy=w[v].found_is_copy
  fi;
  forget_look(v)
}

#define WATCHER(v) \
  :: d_step { w[v].does==RESTS && !w[v].paused && w[v].rests_for>0 -> \
              w[v].does=LOOKS; w[v].asked_after=w[v].answered_for; w[v].asked_age=w[v].age } \
  :: d_step { w[v].does==LOOKS && !w[v].executed && !w[v].broken && redis==UP -> \
              w[v].executed=1; w[v].found=listed; w[v].found_is_it=listed; \
              w[v].found_seen=(listed && w[v].seen && w[v].seen_is_it); \
              w[v].found_is_copy=(listed && copy_is_it); \
              w[v].sure=(w[v].clear>=LEASE-OVERLOOKED) } \
  :: d_step { w[v].does==LOOKS && w[v].executed && !w[v].paused -> hear(v) } \
  :: d_step { w[v].does==LOOKS && !w[v].paused && \
              (w[v].broken || redis==GONE || w[v].asked_for>LATE) -> \
              restart_after_error(v); forget_look(v); w[v].does=RESTS; w[v].broken=0 } \
  :: d_step { w[v].does==REAPS && redis==UP -> \
              reap(w[v].verdict_is_it,w[v].verdict_sure); \
              w[v].does=RESTS; w[v].rests_for=0; w[v].verdict_is_it=0; w[v].verdict_sure=0; \
              w[v].verdict_is_copy=0 } \
  /* its answer is lost: once more; or a copy stays behind */ \
  :: d_step { w[v].does==REAPS && redis==UP && losses>0 -> \
              losses--; reap(w[v].verdict_is_it,w[v].verdict_sure) } \
  :: d_step { w[v].does==REAPS && losses>0 && !w[v].late_reap -> \
              losses--; w[v].late_reap=1; w[v].late_is_it=w[v].verdict_is_it; \
              w[v].late_sure=w[v].verdict_sure; w[v].late_is_copy=w[v].verdict_is_copy } \
  :: d_step { w[v].late_reap && redis==UP -> \
              reap(w[v].late_is_it,w[v].late_sure); \
              w[v].late_reap=0; w[v].late_is_it=0; w[v].late_sure=0; w[v].late_is_copy=0 } \
  /* faults */ \
  :: d_step { watcher_pauses>0 && !w[v].paused -> watcher_pauses--; w[v].paused=1 } \
  :: d_step { w[v].paused -> \
              if :: w[v].paused_for>OVERLOOKED -> w[v].clear=0 :: else fi; \
              w[v].paused=0; w[v].paused_for=0 } \
  :: d_step { watcher_cuts>0 && !w[v].broken -> watcher_cuts--; breaks(v) }

#define HOST \
  :: d_step { !dead && !paused && !sent && sent_for>0 -> sent=1; sent_for=0 } \
  :: d_step { sent && redis==UP && !cut -> beat() } \
  :: d_step { sent && dead -> sent=0; copy_is_sent=0 } \
  :: d_step { host_pauses>0 && !dead && !paused -> host_pauses--; paused=1; own_fault=1 } \
  :: d_step { paused -> paused=0 } \
  :: d_step { host_cuts>0 && !cut -> host_cuts--; cut=1; own_fault=1 } \
  :: d_step { cut -> cut=0 } \
  :: d_step { kills>0 && !dead -> kills--; dead=1; paused=0; own_fault=1 } \
  :: d_step { starts>0 && dead -> starts--; dead=0; sent_for=BEAT }

#define REDIS \
  /* it is never up for so short a time that a look is answered and an older beat is not */ \
  :: d_step { freezes>0 && redis==UP && !beat_is_due -> freezes--; redis=FROZEN } \
  :: d_step { redis==FROZEN -> \
              if :: frozen_for>OVERLOOKED -> FOR_ALL(interrupted) :: else fi; \
              redis=UP; frozen_for=0 } \
  :: d_step { outages>0 && redis==UP -> outages--; redis=GONE; FOR_ALL(breaks) } \
  :: d_step { redis==GONE -> redis=UP; FOR_ALL(breaks); connects=1 }

/* ---- the clock: what is due has been done ---- */
#define host_is_due (!dead && !paused && !sent && sent_for>=BEAT)
#define beat_is_due (sent && redis==UP && !cut && !connects)
#define is_due(v) ( \
  (w[v].does==LOOKS && !w[v].executed && !w[v].broken && redis==UP) || \
  (w[v].does==REAPS && redis==UP && w[v].rests_for>=EVERY) || \
  (!w[v].paused && w[v].does==RESTS && w[v].rests_for>=EVERY) || \
  (!w[v].paused && w[v].does==LOOKS && w[v].executed && slow_ticks==0) || \
  (!w[v].paused && w[v].does==LOOKS && \
   ((w[v].broken && redis==UP) || w[v].asked_for>LATE)))
#define answer_is_late(v) (!w[v].paused && w[v].does==LOOKS && w[v].executed)
inline passes(v) {
  up_to(EVERY,w[v].rests_for);
  if :: w[v].answered_for==NEVER -> skip :: else -> up_to(EVERY+LATE+1,w[v].answered_for) fi;
  if :: w[v].seen -> up_to(LEASE,w[v].age) :: else fi;
  if :: w[v].does==LOOKS -> up_to(LATE+1,w[v].asked_for) :: else fi;
  if :: w[v].paused -> up_to(OVERLOOKED+1,w[v].paused_for) :: else fi;
  up_to(LEASE,w[v].clear);
  if
  :: redis!=UP || w[v].paused || answer_is_late(v) || !listed -> w[v].unseen=0
  :: else -> up_to(LEASE+SOON+1,w[v].unseen)
  fi;
  assert(w[v].unseen<=LEASE+SOON)
}
#define TICK \
  :: d_step { !host_is_due && !beat_is_due && !some(is_due) && !too_old -> \
              if :: some(answer_is_late) -> slow_ticks-- :: else fi; \
              FOR_ALL(passes); \
              up_to(BEAT,sent_for); connects=0; up_to(LEASE,still); \
              if :: copy -> up_to(LEASE,copy_age) :: else fi; \
              if :: redis==FROZEN -> up_to(OVERLOOKED+1,frozen_for) :: else fi }

init {
  d_step { FOR_ALL(restart) }
  do
  HOST
  LATE_BEAT
  REDIS
  WATCHER(0)
#if WATCHERS==2
  WATCHER(1)
#endif
  TICK
  od
}
