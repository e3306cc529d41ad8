#ifndef TENSORFERRY_TRANSPORT_TLS_STREAM_H_
#define TENSORFERRY_TRANSPORT_TLS_STREAM_H_

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "transport/byte_stream.h"
#include "transport/session_key.h"

namespace tensorferry {

// TLS 1.3 with the session's key as pre-shared key: no certificates, and no
// connection between two that do not both have the key. The key of TLS is
// derived from the session's, so that one says nothing of the other.

// Null: OpenSSL has no memory.
std::unique_ptr<ByteStream> MakeTlsClient(UniqueFd socket, SessionKey session);

// A session's key by its id; nullopt: there is none for TLS.
using FindTlsKey =
    std::function<std::optional<std::string>(const std::string& session_id)>;
std::unique_ptr<ByteStream> MakeTlsServer(UniqueFd socket, FindTlsKey find);

}  // namespace tensorferry

#endif  // TENSORFERRY_TRANSPORT_TLS_STREAM_H_
