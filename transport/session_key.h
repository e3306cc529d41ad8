#ifndef TENSORFERRY_TRANSPORT_SESSION_KEY_H_
#define TENSORFERRY_TRANSPORT_SESSION_KEY_H_

#include <cstddef>
#include <string>

namespace tensorferry {

// What a connection has to prove before tensorpipe sees a byte of it.
struct SessionKey {
  static constexpr size_t kLongestId = 128;
  static constexpr size_t kKeyBytes = 16;

  std::string session_id;  // 1 to 128 bytes; travels in the clear
  std::string key;         // 16 random bytes; never travels
};

}  // namespace tensorferry

#endif  // TENSORFERRY_TRANSPORT_SESSION_KEY_H_
