#ifndef TENSORFERRY_SERIALIZATION_NAME_TABLE_H_
#define TENSORFERRY_SERIALIZATION_NAME_TABLE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace tensorferry {

// A hash table over names that live elsewhere: slots hold 1 + index, 0 is
// free. A message of 10,000 named tensors costs one allocation and a few
// nanoseconds a name, where a map of strings would cost half the codec.
using NameTable = std::vector<uint32_t>;

// Seeded at random in each process, so that a peer cannot choose names that
// collide.
uint64_t HashName(absl::string_view name);

// Twice as many slots as names, rounded up to a power of two.
NameTable NameTableFor(size_t names);

// The index of `name`, or -1. `name_of(index)` gives the name of an index.
template <class NameOf>
int FindName(const NameTable& table, absl::string_view name, NameOf name_of) {
  if (table.empty()) return -1;
  size_t mask = table.size() - 1;
  for (size_t slot = HashName(name) & mask; table[slot] != 0;
       slot = (slot + 1) & mask) {
    int index = static_cast<int>(table[slot] - 1);
    if (name_of(index) == name) return index;
  }
  return -1;
}

// Adds `name` under `index`, or returns the index that has it already; -1 when
// it was added. The table must have a free slot.
template <class NameOf>
int AddName(NameTable& table, absl::string_view name, int index,
            NameOf name_of) {
  size_t mask = table.size() - 1;
  size_t slot = HashName(name) & mask;
  for (; table[slot] != 0; slot = (slot + 1) & mask) {
    int other = static_cast<int>(table[slot] - 1);
    if (name_of(other) == name) return other;
  }
  table[slot] = static_cast<uint32_t>(index) + 1;
  return -1;
}

// `tensor 3 "encoder.weight"`, escaped and cut to a length that fits a
// message; without the name if it is empty.
std::string DescribeTensor(int tensor, absl::string_view name);

}  // namespace tensorferry

#endif  // TENSORFERRY_SERIALIZATION_NAME_TABLE_H_
