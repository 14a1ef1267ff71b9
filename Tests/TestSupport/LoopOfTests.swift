import EventLoop
import TestMain

/// Tests run on Swift's own pool; what is isolated to the main actor runs on the event loop, as in the program.
@_cdecl("prov_install_event_loop")
public func installEventLoop() { EventLoop.installForMainActor() }
