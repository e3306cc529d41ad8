#ifndef TENSORFERRY_SESSION_LOCAL_CAPABILITIES_H_
#define TENSORFERRY_SESSION_LOCAL_CAPABILITIES_H_

#include "base/limits.h"
#include "base/peer_id.h"
#include "control/capabilities.h"
#include "serialization/converter_registry.h"
#include "transfer/backend_registry.h"

namespace tensorferry {

// What this process can do now: asks the converters for devices, the backends
// for paths and the system who and where it is. `plaintext_between_hosts`: see
// Paths.
Capabilities LocalCapabilities(const PeerId& peer, const Limits& limits,
                               const ConverterRegistry& converters,
                               const BackendRegistry& backends,
                               bool plaintext_between_hosts);

}  // namespace tensorferry

#endif  // TENSORFERRY_SESSION_LOCAL_CAPABILITIES_H_
