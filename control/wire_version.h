#ifndef TENSORFERRY_CONTROL_WIRE_VERSION_H_
#define TENSORFERRY_CONTROL_WIRE_VERSION_H_

namespace tensorferry {

// Versions of the transfer protocol that a process speaks, both ends included.
struct VersionRange {
  int lowest = 1;
  int highest = 1;
  friend bool operator==(const VersionRange&, const VersionRange&) = default;
};

// What this build speaks. Tests build peers of another age by defining both
// macros for a whole binary.
#ifndef FERRY_LOWEST_WIRE_VERSION
#define FERRY_LOWEST_WIRE_VERSION 1
#endif
#ifndef FERRY_HIGHEST_WIRE_VERSION
#define FERRY_HIGHEST_WIRE_VERSION 1
#endif
inline constexpr VersionRange kWireVersions{FERRY_LOWEST_WIRE_VERSION,
                                            FERRY_HIGHEST_WIRE_VERSION};

}  // namespace tensorferry

#endif  // TENSORFERRY_CONTROL_WIRE_VERSION_H_
