#include "tests/software_gpu/access_log.h"

#include <sstream>

namespace tensorferry::software_gpu {

std::vector<Access> Conflicts(const std::vector<Access>& log,
                              const Access& access, const VectorClock& clock) {
  std::vector<Access> conflicts;
  for (const Access& earlier : log) {
    const bool overlap =
        earlier.begin < access.end && access.begin < earlier.end;
    if (overlap && (earlier.write || access.write) &&
        !clock.Covers(earlier.stream, earlier.epoch)) {
      conflicts.push_back(earlier);
    }
  }
  return conflicts;
}

void Add(const Access& access, const VectorClock& clock,
         std::vector<Access>& log) {
  std::erase_if(log, [&](const Access& earlier) {
    const bool within =
        access.begin <= earlier.begin && earlier.end <= access.end;
    return within && (access.write || !earlier.write) &&
           clock.Covers(earlier.stream, earlier.epoch);
  });
  log.push_back(access);
}

std::string ToString(const Access& access) {
  std::ostringstream text;
  text << (access.write ? "write" : "read") << " of [" << access.begin << ", "
       << access.end << ") by " << access.name << ", stream "
       << (access.stream & 0xffffffff) << " of process "
       << (access.stream >> 32);
  return text.str();
}

}  // namespace tensorferry::software_gpu
