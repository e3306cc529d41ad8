#ifndef TENSORFERRY_CONTROL_STANDARD_SERVICES_H_
#define TENSORFERRY_CONTROL_STANDARD_SERVICES_H_

namespace tensorferry {

// Gives every server that this process builds from now on gRPC's standard
// health and reflection services. Call it before grpc::ServerBuilder is
// constructed. Process-wide, as gRPC has it; further calls do nothing.
void EnableHealthAndReflection();

}  // namespace tensorferry

#endif  // TENSORFERRY_CONTROL_STANDARD_SERVICES_H_
