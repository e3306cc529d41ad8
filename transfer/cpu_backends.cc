// The channels for host memory.
#include <tensorpipe/tensorpipe.h>

#include "channel/local_channel.h"
#include "transfer/backend_registry.h"
#include "transport/descriptors.h"
#include "transport/hub.h"

namespace tensorferry {
namespace {

std::shared_ptr<tensorpipe::channel::Context> MakeLocal(
    const ChannelEnvironment& environment) {
  LocalChannelOptions options;
  options.copier = environment.copier;
  options.loop = environment.loop;
  options.peer_of = PeerProcessOf;
  options.descriptors = {.carried_by = CarriesDescriptors,
                         .write = WriteWithDescriptor,
                         .take = TakeDescriptor};
  options.pool = environment.pool;
  options.is_read_at_once = environment.digests;
  options.lent = environment.lent;
  options.leases = environment.leases;
  options.reader_of = environment.reader_of;
  options.on_carried = environment.on_carried;
  options.on_copy = environment.on_copy;
  options.on_wedged = environment.on_wedged;
  return MakeLocalChannel(std::move(options));
}

// Never unusable: it knows a way through its connection too.
const BackendRegistrar local(ChannelBackend{
    .name = "local",
    .priority = 1200,
    .reach = ChannelBackend::Reach::kSameHostAndUser,
    .make = MakeLocal,
    .only_on_unix = true});

const BackendRegistrar basic(ChannelBackend{
    .name = "basic", .priority = 1000, .make = [](const ChannelEnvironment&) {
      return tensorpipe::channel::basic::create();
    }});

}  // namespace
}  // namespace tensorferry
