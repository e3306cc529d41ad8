#ifndef TENSORFERRY_TRANSPORT_HANDSHAKE_IO_H_
#define TENSORFERRY_TRANSPORT_HANDSHAKE_IO_H_

#include <cstddef>
#include <cstdint>

#include "absl/status/statusor.h"
#include "transport/byte_stream.h"
#include "transport/handshake.h"

namespace tensorferry {

// Carries a handshake on as far as the stream allows. Whether it is done.
// UNAVAILABLE: the peer has gone; the handshake's and the stream's errors.
absl::StatusOr<bool> Drive(Handshake& handshake, ByteStream& stream);

// Reads until `out` holds `size` bytes of which `got` were there. Whether it
// does.
absl::StatusOr<bool> ReadFully(ByteStream& stream, uint8_t* out, size_t size,
                               size_t& got);

}  // namespace tensorferry

#endif  // TENSORFERRY_TRANSPORT_HANDSHAKE_IO_H_
