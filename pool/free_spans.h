#ifndef TENSORFERRY_POOL_FREE_SPANS_H_
#define TENSORFERRY_POOL_FREE_SPANS_H_

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <utility>

namespace tensorferry {

// Free ranges of addresses. A range is taken from the smallest that is large
// enough, the lowest of those, and melts with its neighbours when it comes
// back. Each call is O(log n) in the number of ranges.
class FreeSpans {
 public:
  using Spans = std::map<uint64_t, uint64_t>;  // begin -> size

  // Where; nullopt: no range has as many.
  std::optional<uint64_t> Take(uint64_t nbytes) {
    auto found = by_size_.lower_bound({nbytes, 0});
    if (found == by_size_.end()) return std::nullopt;
    const auto [size, begin] = *found;
    Erase(by_begin_.find(begin));
    if (size > nbytes) Insert(begin + nbytes, size - nbytes);
    return begin;
  }

  // Whether a range has as many.
  bool Has(uint64_t nbytes) const {
    return by_size_.lower_bound({nbytes, 0}) != by_size_.end();
  }

  // They were taken, or are new.
  void Add(uint64_t begin, uint64_t nbytes) {
    auto after = by_begin_.lower_bound(begin);
    if (after != by_begin_.end() && after->first == begin + nbytes) {
      nbytes += after->second;
      after = Erase(after);
    }
    if (after != by_begin_.begin()) {
      auto before = std::prev(after);
      if (before->first + before->second == begin) {
        begin = before->first;
        nbytes += before->second;
        Erase(before);
      }
    }
    Insert(begin, nbytes);
  }

  // Whatever of [begin, begin + nbytes) is free is so no more, and returned. No
  // free range goes beyond it. Takes no memory.
  Spans Remove(uint64_t begin, uint64_t nbytes) {
    Spans removed;
    auto at = by_begin_.lower_bound(begin);
    while (at != by_begin_.end() && at->first < begin + nbytes) {
      by_size_.erase({at->second, at->first});
      removed.insert(by_begin_.extract(at++));
    }
    return removed;
  }

 private:
  Spans::iterator Erase(Spans::iterator span) {
    by_size_.erase({span->second, span->first});
    return by_begin_.erase(span);
  }
  void Insert(uint64_t begin, uint64_t nbytes) {
    by_begin_.emplace(begin, nbytes);
    by_size_.emplace(nbytes, begin);
  }

  Spans by_begin_;
  std::set<std::pair<uint64_t, uint64_t>> by_size_;  // size, begin
};

}  // namespace tensorferry

#endif  // TENSORFERRY_POOL_FREE_SPANS_H_
