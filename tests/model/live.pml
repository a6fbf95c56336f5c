/* live.pml: no suspect waits for ever, however much other work there is.
 *
 * HOSTS hosts of WORKERS workers with two slots each, and PLENTY items that are always there: what
 * is finished is pushed again. SUSPECTS suspects arrive; a holder of one dies DEATHS times, and it
 * waits again. While suspects wait, a host runs none and no worker of it is empty, its coordinator
 * orders one to run itself empty. Checked with weak fairness: whoever can go on does so one day.
 */
#ifndef HOSTS
#define HOSTS 1
#endif
#ifndef WORKERS
#define WORKERS 2                  /* 1 or 2 */
#endif
#ifndef SUSPECTS
#define SUSPECTS 2
#endif
#ifndef DEATHS
#define DEATHS 1
#endif
#ifndef PLENTY
#define PLENTY 3
#endif
#define ALL (HOSTS*WORKERS)
#define SLOTS 2
#define host_of(w) ((w)/WORKERS)

byte q, finished = PLENTY;
byte suspects, coming = SUSPECTS, deaths = DEATHS;
byte holds[ALL] = 1;               /* innocent items */
bit runs_suspect[ALL], ordered[ALL];

#define empty(w) (holds[w]==0 && !runs_suspect[w])
#if WORKERS==1
#define field(h) runs_suspect[h]
#define any_empty(h) empty(h)
#define any_ordered(h) ordered[h]
#else
#define field(h) (runs_suspect[(h)*2] || runs_suspect[(h)*2+1])
#define any_empty(h) (empty((h)*2) || empty((h)*2+1))
#define any_ordered(h) (ordered[(h)*2] || ordered[(h)*2+1])
#endif

#ifdef M_LIVE_FORGET               /* the order holds for one claim only */
#define may_claim(w) true
#define takes_order(w) ordered[w]
#else
#define may_claim(w) (!ordered[w] || holds[w]==0)
#define takes_order(w) false
#endif
#ifdef M_LIVE_SUSPECTS_LAST        /* a suspect is given only when there is nothing else */
#define gets_suspect(w) (holds[w]==0 && suspects>0 && !field(host_of(w)) && q==0)
#else
#define gets_suspect(w) (holds[w]==0 && suspects>0 && !field(host_of(w)))
#endif

active [ALL] proctype Worker() {
  byte w = _pid;
end:
  do
  :: atomic { holds[w]+runs_suspect[w]<SLOTS && !runs_suspect[w] && may_claim(w) &&
              (q || gets_suspect(w)) ->
       if
       :: takes_order(w) -> ordered[w]=0
       :: !takes_order(w) && gets_suspect(w) -> ordered[w]=0; suspects--; runs_suspect[w]=1
       :: !takes_order(w) && !gets_suspect(w) && q ->
          if :: holds[w]==0 -> ordered[w]=0 :: else fi;
          q--; holds[w]++
       :: else
       fi }
  :: atomic { holds[w]>0 -> holds[w]--; finished++ }
  :: atomic { runs_suspect[w] -> runs_suspect[w]=0 }
  :: atomic { runs_suspect[w] && deaths>0 ->
              deaths--; runs_suspect[w]=0; holds[w]=0; ordered[w]=0; suspects++ }
  od
}

#ifndef M_LIVE_NO_ORDER            /* a coordinator leaves it to chance that a worker is empty */
active [HOSTS] proctype Coordinator() {
  byte h = _pid-ALL, chosen;
end:
  do
  :: atomic { suspects>0 && !field(h) && !any_empty(h) && !any_ordered(h) ->
       if :: chosen=h*WORKERS :: chosen=h*WORKERS+WORKERS-1 fi;
       ordered[chosen]=1 }
  od
}
#endif

active proctype Producer() {
end:
  do :: atomic { finished -> finished--; q++ } od
}

active proctype Arrival() {
  do :: atomic { coming>0 -> coming--; suspects++ } :: coming==0 -> break od
}

#define done (coming==0 && suspects==0 && !(runs_suspect[0] || runs_suspect[ALL-1] || \
              runs_suspect[ALL/2]))
ltl every_suspect_is_run { <> done }
