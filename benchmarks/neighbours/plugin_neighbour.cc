#include <dlfcn.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "benchmarks/neighbours/neighbour.h"
#include "benchmarks/neighbours/pieces.h"
#include "benchmarks/neighbours/plugin.h"
#include "benchmarks/two_process/workload.h"

namespace tensorferry::benchmarks {
namespace {

constexpr size_t kAddressCapacity = 64 << 10;

// The functions of plugin.h in a library that stays loaded.
struct Plugin {
  decltype(&plugin_listen) listen;
  decltype(&plugin_accept) accept;
  decltype(&plugin_connect) connect;
  decltype(&plugin_send) send;
  decltype(&plugin_arm) arm;
  decltype(&plugin_take) take;
  decltype(&plugin_error) error;

  absl::Status ToStatus(bool ok) const {
    return ok ? absl::OkStatus() : absl::UnavailableError(error());
  }
};

absl::StatusOr<Plugin> Load(const std::string& path) {
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return absl::NotFoundError(dlerror());
  Plugin plugin;
  bool all = true;
  auto find = [&](const char* name, auto& function) {
    function = reinterpret_cast<std::decay_t<decltype(function)>>(
        dlsym(library, name));
    all = all && function != nullptr;
  };
  find("plugin_listen", plugin.listen);
  find("plugin_accept", plugin.accept);
  find("plugin_connect", plugin.connect);
  find("plugin_send", plugin.send);
  find("plugin_arm", plugin.arm);
  find("plugin_take", plugin.take);
  find("plugin_error", plugin.error);
  if (!all) return absl::NotFoundError(absl::StrCat(path, " is no plugin"));
  return plugin;
}

class PluginSender : public Sender {
 public:
  PluginSender(Plugin plugin, void* end) : plugin_(plugin), end_(end) {}

  absl::Status Send(const Contents& contents) override {
    const std::vector<iovec> pieces = PiecesOf(contents.tensors);
    return plugin_.ToStatus(plugin_.send(end_, pieces.data(), pieces.size()) ==
                            0);
  }

 private:
  const Plugin plugin_;
  void* const end_;
};

class PluginReceiver : public Receiver {
 public:
  PluginReceiver(Plugin plugin, void* end) : plugin_(plugin), end_(end) {}

  void Arm(const Contents& like, bool reuse) override {
    tensors_ = reuse ? like.tensors : FreshLike(like.tensors);
    const std::vector<iovec> pieces = PiecesOf(tensors_);
    armed_ =
        plugin_.ToStatus(plugin_.arm(end_, pieces.data(), pieces.size()) == 0);
  }

  absl::StatusOr<std::vector<at::Tensor>> Take() override {
    FERRY_RETURN_IF_ERROR(armed_);
    FERRY_RETURN_IF_ERROR(plugin_.ToStatus(plugin_.take(end_) == 0));
    return std::move(tensors_);
  }

 private:
  const Plugin plugin_;
  void* const end_;
  absl::Status armed_;
  std::vector<at::Tensor> tensors_;
};

class PluginAcceptor : public Acceptor {
 public:
  PluginAcceptor(Plugin plugin, void* end, std::string address)
      : plugin_(plugin), end_(end), address_(std::move(address)) {}

  const std::string& address() const override { return address_; }

  absl::StatusOr<std::unique_ptr<Receiver>> Accept() override {
    FERRY_RETURN_IF_ERROR(plugin_.ToStatus(plugin_.accept(end_) == 0));
    return std::make_unique<PluginReceiver>(plugin_, end_);
  }

 private:
  const Plugin plugin_;
  void* const end_;
  const std::string address_;
};

}  // namespace

Neighbour PluginNeighbour(std::string library) {
  return {.listen = [=]() -> absl::StatusOr<std::unique_ptr<Acceptor>> {
            FERRY_ASSIGN_OR_RETURN(const Plugin plugin, Load(library));
            std::string address(kAddressCapacity, '\0');
            void* end = plugin.listen(address.data(), address.size());
            FERRY_RETURN_IF_ERROR(plugin.ToStatus(end != nullptr));
            return std::make_unique<PluginAcceptor>(plugin, end,
                                                    address.c_str());
          },
          .connect = [=](const std::string& address)
              -> absl::StatusOr<std::unique_ptr<Sender>> {
            FERRY_ASSIGN_OR_RETURN(const Plugin plugin, Load(library));
            void* end = plugin.connect(address.c_str());
            FERRY_RETURN_IF_ERROR(plugin.ToStatus(end != nullptr));
            return std::make_unique<PluginSender>(plugin, end);
          }};
}

}  // namespace tensorferry::benchmarks
