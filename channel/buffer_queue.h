#ifndef TENSORFERRY_CHANNEL_BUFFER_QUEUE_H_
#define TENSORFERRY_CHANNEL_BUFFER_QUEUE_H_

#include <algorithm>
#include <cstdint>
#include <deque>
#include <optional>
#include <utility>

#include "channel/carried.h"

namespace tensorferry {

// The buffers of one direction, numbered from 0 as they are added. They leave
// in that order, each once it has ended. An Entry has `Carried carried` and
// `bool ended() const`.
template <class Entry>
class BufferQueue {
 public:
  uint64_t Add(Entry entry) {
    nbytes_ += entry.carried.length;
    entries_.push_back(std::move(entry));
    return end() - 1;
  }
  bool Has(uint64_t number) const { return number >= first_ && number < end(); }
  // `number`: of one that has not left.
  Entry& At(uint64_t number) { return entries_[number - first_]; }
  uint64_t end() const { return first_ + entries_.size(); }
  // Bytes of those that have not left.
  uint64_t nbytes() const { return nbytes_; }

  // The first from `number` on that has not left and for which `is` holds;
  // end(): none.
  template <class Is>
  uint64_t FirstWhere(uint64_t number, Is is) {
    number = std::max(number, first_);
    while (number < end() && !is(At(number))) ++number;
    return number;
  }

  // The oldest if it has ended, after which it has left.
  std::optional<Carried> TakeEnded() {
    if (entries_.empty() || !entries_.front().ended()) return std::nullopt;
    Carried carried = std::move(entries_.front().carried);
    nbytes_ -= carried.length;
    entries_.pop_front();
    ++first_;
    return carried;
  }

 private:
  std::deque<Entry> entries_;
  uint64_t first_ = 0;  // number of entries_[0]
  uint64_t nbytes_ = 0;
};

}  // namespace tensorferry

#endif  // TENSORFERRY_CHANNEL_BUFFER_QUEUE_H_
