/* Warm segments: files whose block is gone and whose pages are kept for the next one. As in ``manifest/segments.py``.

   Rule 1. Only a segment that is taken from its list and given back to it unchanged is dealt with here. What makes or removes a
   file (none fits, the lists hold as much as may stay warm, other programs may have it open) is Python's.
   Rule 2. A list is followed for so many steps, and every row in it has to be what belongs there: a warm segment in memory.  */

#define MOST_TRIED 32
#define BUCKETS_TRIED 3
#define SMALLEST_NBYTES 4096

/* ``size_class_of`` */
static u64 bucket_of(Core *self, u64 nbytes) {
    if (nbytes < SMALLEST_NBYTES)
        nbytes = SMALLEST_NBYTES;
    u64 exponent = 63 - (u64)__builtin_clzll(nbytes), bucket = (exponent - 12) * 4 + ((nbytes >> (exponent - 2)) & 3);
    return bucket < self->columns[Recycled_first].rows ? bucket : self->columns[Recycled_first].rows - 1;
}

/* A warm segment that a block will get. */
typedef struct {
    u64 row, nbytes, bucket;
    u64 before; /* in its list, row + 1; 0: it is the first */
} warm;

/* ``SegmentSpace._find_warm`` of each bucket in turn: one that this process filled last, else the youngest. */
static int find_warm(Core *self, u64 needed, warm *found) {
    u64 bucket = bucket_of(self, needed), end = bucket + BUCKETS_TRIED;
    int is_found = 0, is_ours = 0;
    for (; !is_found && bucket < end && bucket < self->columns[Recycled_first].rows; bucket++) {
        u64 before = 0, following = GET(Recycled_first, bucket);
        for (int step = 0; step < MOST_TRIED && following && !is_ours; step++) {
            u64 row = following - 1, nbytes;
            if (row >= self->segments_high || GET(Segments_state, row) != WARM || GET(Segments_place, row) || GET(Segments_slab, row))
                return 0;
            nbytes = GET(Segments_nbytes, row);
            is_ours = needed <= nbytes && nbytes - needed <= nbytes / 4 && GET(Segments_owner, row) == self->mark;
            if (is_ours || (!is_found && needed <= nbytes && nbytes - needed <= nbytes / 4)) {
                *found = (warm){.row = row, .nbytes = nbytes, .bucket = bucket, .before = before};
                is_found = 1;
            }
            before = following;
            following = GET(Segments_next, row);
        }
    }
    return is_found && !odd(found->nbytes | HEAD(used_nbytes)) && HEAD(recycled_nbytes) >= found->nbytes;
}

/* ``SegmentSpace._take_warm`` of what was found. */
static void take_warm(Core *self, const warm *found) {
    u64 following = GET(Segments_next, found->row);
    if (found->before)
        SET(Segments_next, found->before - 1, following);
    else
        SET(Recycled_first, found->bucket, following);
    SET(Segments_owner, found->row, self->mark);
    SET(Segments_state, found->row, USED);
    ADD_HEAD(used_nbytes, found->nbytes);
    ADD_HEAD(recycled_nbytes, -found->nbytes);
}

/* Whether the segment of a block that goes stays warm, and nothing has to be removed for it. */
static int can_keep_warm(Core *self, u64 row, u64 nbytes) {
    u64 recycle = HEAD(recycle);
    return !GET(Segments_slab, row) && !GET(Segments_exported, row) && nbytes <= recycle &&
           HEAD(recycled_nbytes) <= recycle - nbytes && HEAD(used_nbytes) >= nbytes;
}

/* ``SegmentSpace.leave_segment`` of such a one. */
static void keep_warm(Core *self, u64 row, u64 nbytes) {
    u64 bucket = bucket_of(self, nbytes);
    ADD_HEAD(used_nbytes, -nbytes);
    SET(Segments_state, row, WARM);
    SET(Segments_next, row, GET(Recycled_first, bucket));
    SET(Recycled_first, bucket, row + 1);
    ADD_HEAD(recycled_nbytes, nbytes);
}
