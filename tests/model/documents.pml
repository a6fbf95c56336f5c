/* documents.pml: two chains on one vCon, its producer, and a storage (documents.lua, write.lua).
 *
 * Each chain has an item of the same uuid. An item is claimed, runs two links that append one thing
 * each, writes after each (a checkpoint, compare-and-set on the revision), is stored under the
 * revision written, and settled. A conflict gives back the newer document: what this item appended
 * since it read is appended to that one, and it writes again. A document that has expired meanwhile
 * comes back from the storage. An item whose holder died is resumed after the links that its record
 * names; but what a record calls done is about one document, and where a producer has replaced that
 * since, all links run again.
 *
 * What must hold: nothing is appended twice, nothing is lost: the document ends with both chains'
 * work, and so does the storage, in whatever order saves commit and whoever dies; a producer's SET
 * is never overwritten, and has the work of every chain that claimed or wrote after it; a document
 * expires only when the storage has it. (Not shown: a SET, and then an expiry. What comes back from
 * a storage says nothing of what it lacks.)
 *
 * Faults: KILL deaths of a holder (its call, and its save, may still arrive), LOST lost answers or
 * late copies, PSET sets by the producer, EXPIRE expiries. INLINE: there is chain 0 only, and its
 * item was pushed as a document, so that its first write replaces what is there (base 0).
 *
 * TWICE: the uuid was pushed to chain 0 twice, beside chain 1; with INLINE, as a document, and
 * there is chain 0 only. Here a link appends only what it does not see, as a link should. A conflict
 * with the work of one's own chain is no reason to join, but to run anew from the newer document. (Left
 * out: a document that expires meanwhile. What comes back from a storage names no chain.)
 */
#ifndef KILL
#define KILL 0
#endif
#ifndef LOST
#define LOST 0
#endif
#ifndef PSET
#define PSET 0
#endif
#ifndef EXPIRE
#define EXPIRE 0
#endif
byte kills = KILL, losses = LOST, sets = PSET, expiries = EXPIRE;

#define LINKS 2
#ifdef TWICE
#define ITEMS 3
#define chain_of(w) ((w)%2)
#define appends(w) (i[w].base.by[chain_of(w)]+i[w].mine<=i[w].done)
#else
#define ITEMS 2
#define chain_of(w) (w)
#define appends(w) true
#endif
#define NOBODY 2                   /* as a chain */
#define ANYTHING 0                 /* as a base: replaces whatever is there (a pushed document) */
#define ABSENT 255                 /* as a base: nothing may be there (it came from the storage) */

typedef Text { byte set; byte by[2] };            /* how often set; what each chain appended */

/* ---- Redis ---- */
Text text;
byte revision = 1;                                /* 0 when both keys have expired */
bit there = 1, marked, expires;
byte used = 1;                                    /* the last revision given: TIME never repeats */
byte chain = NOBODY;                              /* who wrote it */
byte wrote[2];                                    /* the revision that each chain wrote last */
byte replaced;                                    /* the revision that replaced another document */

/* ---- the storage ---- */
Text row;
byte row_revision;

/* ---- an item: its record in Redis, its holder, and copies on dead connections ---- */
#define WAITS 0
#define RUNS 1
#define SENT 2
#define EXECUTED 3
#define SAVES 4
#define STORED 5
#define SETTLED 6
typedef Item {
  byte links, about;                              /* record: links done, in which revision */
  byte number, result;                            /* record: last write, its answer */
  bit since;                                      /* ghost: claimed or wrote after the last SET */
  byte step;
  Text base; byte base_revision; byte mine;       /* what the holder read; appended since */
  bit unsaved;                                    /* it came from the storage */
  byte done, writes;                              /* links run; writes sent */
  bit conflict, anew; Text newer; byte newer_revision;        /* the answer, while EXECUTED */
  bit late; bit late_fits; byte late_number, late_base, late_links; Text late_text;
  bit late_save; byte save_revision; Text save
};
Item i[ITEMS];

#define copy(from,to) to.set=from.set; to.by[0]=from.by[0]; to.by[1]=from.by[1]
#ifdef INLINE
#define complete(t) (t.by[0]==LINKS)
#else
#define complete(t) (t.by[0]==LINKS && t.by[1]==LINKS)
#endif

#ifdef M_LENGTH_ALONE              /* a SET of the same length is not seen */
#define ours true
#else
#define ours marked
#endif
inline adopt() {                   /* of a document that somebody replaced */
  if
  :: !ours ->
#ifndef M_SAME_REVISION            /* a replacement keeps the revision of what it replaced */
     used++; revision=used; replaced=used;
#endif
     chain=NOBODY; marked=1
  :: else -> marked=1
  fi
}
inline check() {
  assert(text.by[0]<=LINKS && text.by[1]<=LINKS);
  assert(!there || text.set==PSET-sets)           /* no SET was overwritten */
}

/* Scratch, zero between steps: what a write puts there, and what it answers. */
Text body, answer;
bit refused, own;
byte got;

/* Whose work a newer document is: one's own chain's if that has written since, whoever came after.
 */
#ifdef M_NO_AUTHOR                 /* only the last writer is asked for */
#define by_own_chain(w,read) (chain==chain_of(w))
#elif defined(M_JOIN_SELF)         /* a chain joins with itself */
#define by_own_chain(w,read) false
#else
#define by_own_chain(w,read) (chain==chain_of(w) || wrote[chain_of(w)]>read)
#endif
#ifdef M_PROGRESS_BLIND            /* progress is about whatever document there is */
#define lacks(w,known) false
#else
#define lacks(w,known) (i[w].links && replaced>(known))
#endif

/* Compare-and-set, with the number of the write: what write.lua does for one item. */
inline write(w,no,read,links_done) {
  if
#ifndef M_WRITE_UNNUMBERED         /* a repetition is a new write, and meets its own first one */
  :: i[w].number==no -> refused=0; got=i[w].result
#endif
#ifndef M_WRITE_LATE               /* an earlier write that arrives late is carried out */
  :: i[w].number>no -> skip
#endif
  :: else ->
     if
#ifndef M_NO_CAS                   /* the last writer wins */
     :: read!=ANYTHING && there && !(ours && revision==read) ->
        adopt(); refused=1; own=by_own_chain(w,read) || lacks(w,read);
        copy(text,answer); got=revision
#endif
#if !defined(M_NO_CAS) && !defined(L_GONE_IS_OURS)
     /* L_GONE_IS_OURS: what has expired is written again, whatever others had written since */
     :: !there && read!=ANYTHING && read!=ABSENT && revision!=read ->
        refused=1; copy(row,answer); got=ABSENT      /* the client looks in the storage */
#endif
     :: else ->
        used++; revision=used;
        if :: read==ANYTHING && there -> replaced=used :: else fi;
        copy(body,text); there=1; marked=1; expires=0;
        chain=chain_of(w); wrote[chain_of(w)]=revision;
        i[w].number=no; i[w].result=revision;
        i[w].links=links_done; i[w].about=revision; i[w].since=1;
        refused=0; got=revision
     fi
  fi
}
inline body_of(w) {
  copy(i[w].base,body); body.by[chain_of(w)]=body.by[chain_of(w)]+i[w].mine
}
inline clean() {
  body.set=0; body.by[0]=0; body.by[1]=0; answer.set=0; answer.by[0]=0; answer.by[1]=0;
  refused=0; own=0; got=0; check()
}
inline no_answer(w) {
  i[w].conflict=0; i[w].anew=0; i[w].newer_revision=0;
  i[w].newer.set=0; i[w].newer.by[0]=0; i[w].newer.by[1]=0
}

#ifdef M_NO_GUARD                  /* whoever commits last wins */
#define newer_than_row(r) true
#else
#define newer_than_row(r) ((r)>row_revision)
#endif
#define commit(t,r) \
  if :: newer_than_row(r) -> copy(t,row); row_revision=r :: else -> skip fi

inline let_go(w) {
  i[w].step=WAITS; i[w].unsaved=0; i[w].number=0; i[w].result=0; i[w].mine=0; i[w].done=0;
  i[w].base_revision=0; i[w].writes=0;
  i[w].base.set=0; i[w].base.by[0]=0; i[w].base.by[1]=0; no_answer(w)
}
inline forget_late(w) {
  i[w].late=0; i[w].late_fits=0; i[w].late_number=0; i[w].late_base=0; i[w].late_links=0;
  i[w].late_text.set=0; i[w].late_text.by[0]=0; i[w].late_text.by[1]=0
}
inline leave_copy(w) {
  body_of(w); i[w].late=1; i[w].late_fits=1; i[w].late_number=i[w].writes;
  i[w].late_base=i[w].base_revision; i[w].late_links=i[w].done; copy(body,i[w].late_text)
}
#ifdef M_WRITE_NOFENCE             /* a write of whoever has lost the item is carried out */
#define fits(w) true
#else
#define fits(w) i[w].late_fits
#endif
#ifdef M_EXPIRY_UNFENCED           /* settle lets a newer document expire too */
#define may_expire(w) true
#else
#define may_expire(w) (marked && revision==i[w].base_revision)
#endif
#ifdef INLINE
#define reads(w) (i[w].links!=0)
#else
#define reads(w) true
#endif

#define ITEM(w) \
  /* claimed: the document as it is now; a missing one comes from the storage */ \
  :: d_step { i[w].step==WAITS -> \
              i[w].step=RUNS; i[w].since=1; \
              if \
              :: !there && reads(w) -> \
                 copy(row,i[w].base); i[w].base_revision=ABSENT; i[w].unsaved=1 \
              :: there && reads(w) -> \
                 adopt(); expires=0; copy(text,i[w].base); i[w].base_revision=revision \
              :: !reads(w) -> i[w].base_revision=ANYTHING \
              fi; \
              i[w].done=(there && lacks(w,i[w].about) -> 0 : i[w].links); \
              check() } \
  :: d_step { i[w].step==RUNS && i[w].done<LINKS && i[w].mine==0 -> \
              if :: appends(w) -> i[w].mine++ :: else -> skip fi; i[w].done++ } \
  :: d_step { i[w].step==RUNS && (i[w].mine || i[w].unsaved) -> i[w].writes++; i[w].step=SENT } \
  :: d_step { i[w].step==SENT -> \
              body_of(w); write(w,i[w].writes,i[w].base_revision,i[w].done); \
              i[w].conflict=refused; i[w].anew=own; i[w].newer_revision=got; \
              copy(answer,i[w].newer); \
              i[w].step=EXECUTED; clean() } \
  :: d_step { i[w].step==EXECUTED -> \
              if :: i[w].conflict -> copy(i[w].newer,i[w].base); \
                    if :: i[w].anew -> i[w].done=0; i[w].mine=0; i[w].unsaved=0 \
                       :: else -> i[w].unsaved=(i[w].newer_revision==ABSENT) fi \
                 :: else -> \
                    i[w].base.by[chain_of(w)]=i[w].base.by[chain_of(w)]+i[w].mine; i[w].mine=0; \
                    i[w].unsaved=0 fi; \
              i[w].base_revision=i[w].newer_revision; no_answer(w); i[w].step=RUNS } \
  :: d_step { i[w].step==RUNS && i[w].done==LINKS && i[w].mine==0 && !i[w].unsaved -> \
              i[w].step=SAVES } \
  :: d_step { i[w].step==SAVES -> commit(i[w].base,i[w].base_revision); i[w].step=STORED } \
  :: d_step { i[w].step==STORED -> \
              if :: there && may_expire(w) -> expires=1 :: else -> skip fi; \
              let_go(w); i[w].step=SETTLED; i[w].late_fits=0 } \
  /* the network: an answer is lost; a copy arrives late, or never */ \
  :: d_step { i[w].step==EXECUTED && losses>0 -> losses--; no_answer(w); i[w].step=SENT } \
  :: d_step { i[w].step==SENT && losses>0 && !i[w].late -> losses--; leave_copy(w); clean() } \
  :: d_step { i[w].late -> \
              if :: fits(w) -> copy(i[w].late_text,body); \
                    write(w,i[w].late_number,i[w].late_base,i[w].late_links) \
                 :: else fi; \
              forget_late(w); clean() } \
  :: d_step { i[w].late -> forget_late(w) } \
  /* its holder dies: what was on its way may still arrive, and finds nothing held */ \
  :: d_step { i[w].step!=WAITS && i[w].step!=SETTLED && kills>0 -> \
              kills--; \
              if :: i[w].step==SENT && !i[w].late -> leave_copy(w) :: else fi; \
              if :: i[w].step==SAVES && !i[w].late_save -> \
                    i[w].late_save=1; i[w].save_revision=i[w].base_revision; \
                    copy(i[w].base,i[w].save) :: else fi; \
              let_go(w); i[w].late_fits=0; clean() } \
  :: d_step { i[w].late_save -> \
              commit(i[w].save,i[w].save_revision); i[w].late_save=0; i[w].save_revision=0; \
              i[w].save.set=0; i[w].save.by[0]=0; i[w].save.by[1]=0 }

/* In the document, and in the storage as soon as that has this very one. */
#define whole(t,w) (t.by[chain_of(w)]==LINKS)
#define finished(w) (!i[w].since || \
                     (whole(text,w) && (row.set!=text.set || whole(row,w))))
#define over(w) (i[w].step==SETTLED && !i[w].late && !i[w].late_save)
init {
#ifdef INLINE
  i[1].step=SETTLED;
#endif
  do
  ITEM(0)
  ITEM(1)
#ifdef TWICE
  ITEM(2)
#endif
  :: d_step { sets>0 ->                            /* a SET clears marks and expiry */
              sets--; there=1; text.set=PSET-sets; text.by[0]=0; text.by[1]=0;
              i[0].since=0; i[1].since=0; i[ITEMS-1].since=0; marked=0; expires=0 }
  :: d_step { expires && expiries>0 ->
              expiries--; assert(row_revision>=revision);
              there=0; expires=0; marked=0; revision=0; replaced=0;
              chain=NOBODY; wrote[0]=0; wrote[1]=0;
              text.set=0; text.by[0]=0; text.by[1]=0 }
  :: over(0) && over(1) && over(ITEMS-1) -> break
  od;
  assert(PSET>0 || !there || complete(text));
  assert(PSET>0 || complete(row));
  assert(EXPIRE>0 || finished(0) && finished(1) && finished(ITEMS-1))
}
