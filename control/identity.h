#ifndef TENSORFERRY_CONTROL_IDENTITY_H_
#define TENSORFERRY_CONTROL_IDENTITY_H_

#include <string>
#include <vector>

namespace tensorferry {

// Who opened a session or made a call, as far as it was proved. Each principal
// is one thing that was: "token:NAME" (the token of that name), "cert:NAME" (a
// subject alternative name of the client's certificate, or its common name if
// it has none), "uid:NUMBER" (the user behind a unix socket). The name that a
// peer gives itself is not among them.
struct Identity {
  std::vector<std::string> principals;  // empty: anonymous

  friend bool operator==(const Identity&, const Identity&) = default;
};

// "token:ci", "token:ci, cert:ci.example", "anonymous".
std::string ToString(const Identity& identity);

}  // namespace tensorferry

#endif  // TENSORFERRY_CONTROL_IDENTITY_H_
