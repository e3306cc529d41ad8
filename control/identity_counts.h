// Internal to control/.
#ifndef TENSORFERRY_CONTROL_IDENTITY_COUNTS_H_
#define TENSORFERRY_CONTROL_IDENTITY_COUNTS_H_

#include <map>
#include <set>
#include <string>

#include "control/identity.h"

namespace tensorferry {

// How much of something each principal has. What one identity has counts for
// all of its principals: whoever shows another token beside his certificate is
// still the one of that certificate. Anonymous callers count as one. Not
// thread-safe.
class IdentityCounts {
 public:
  struct Count {
    std::string principal;
    int count = 0;
  };

  void Add(const Identity& identity) {
    for (const std::string& principal : PrincipalsOf(identity)) {
      ++counts_[principal];
    }
  }
  void Remove(const Identity& identity) {
    for (const std::string& principal : PrincipalsOf(identity)) {
      const auto count = counts_.find(principal);
      if (--count->second == 0) counts_.erase(count);
    }
  }
  // That of the principal of `identity` that has the most.
  Count Most(const Identity& identity) const {
    Count most;
    for (const std::string& principal : PrincipalsOf(identity)) {
      const auto count = counts_.find(principal);
      if (count != counts_.end() && count->second > most.count) {
        most = {principal, count->second};
      }
    }
    return most;
  }

 private:
  // A certificate may have one name twice.
  static std::set<std::string> PrincipalsOf(const Identity& identity) {
    if (identity.principals.empty()) return {ToString(identity)};
    return {identity.principals.begin(), identity.principals.end()};
  }

  std::map<std::string, int> counts_;
};

}  // namespace tensorferry

#endif  // TENSORFERRY_CONTROL_IDENTITY_COUNTS_H_
