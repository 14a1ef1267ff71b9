import Foundation
import Glibc
import SystemPackage
import Testing
@testable import Daemon

struct ProcessSignalsTests {
    @Test @MainActor func `signals are received one by one, including earlier ones`() async throws {
        ProcessSignals.hold([SIGUSR1])
        // To the thread of the event loop: other threads of this process have not asked.
        pthread_kill(pthread_self(), SIGUSR1)
        let signals = try ProcessSignals([SIGUSR1, SIGUSR2])
        var received = signals.received.makeAsyncIterator()
        #expect(await received.next() == SIGUSR1)
        pthread_kill(pthread_self(), SIGUSR2)
        #expect(await received.next() == SIGUSR2)
    }
}

/// A real datagram socket such as systemd listens on.
private final class NotifySocket {
    private let descriptor: Int32

    init(_ name: String) throws {
        descriptor = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        let address = try UnixSocketAddress(name)
        guard address.withSocketAddress({ bind(descriptor, $0, $1) }) == 0 else { throw Errno(rawValue: errno) }
    }

    deinit { close(descriptor) }

    func receive() -> String {
        var buffer = [UInt8](repeating: 0, count: 4_096)
        let count = recv(descriptor, &buffer, buffer.count, 0)
        return String(decoding: buffer[..<max(0, count)], as: UTF8.self)
    }
}

struct ServiceNotifierTests {
    @Test(arguments: [true, false])
    func `every state is sent to systemd, over a path and an abstract name`(isAbstract: Bool) throws {
        let directory = try TemporaryDirectory()
        let name = (isAbstract ? "@" : "") + directory.path.appending("notify").string
        let systemd = try NotifySocket(name)
        let notifier = ServiceNotifier(environment: ["NOTIFY_SOCKET": name])
        try notifier.notify(.ready)
        #expect(systemd.receive() == "READY=1")
        try notifier.notify(.watchdog)
        #expect(systemd.receive() == "WATCHDOG=1")
        try notifier.notify(.stopping)
        #expect(systemd.receive() == "STOPPING=1")
        try notifier.notify(.reloading)
        let reload = systemd.receive().split(separator: "\n")
        #expect(reload.first == "RELOADING=1")
        #expect(try Int64(#require(reload.last).dropFirst("MONOTONIC_USEC=".count)) ?? 0 > 0)
    }

    @Test func `without systemd nothing is sent`() throws {
        let notifier = ServiceNotifier(environment: [:])
        #expect(notifier.watchdogInterval == nil)
        try notifier.notify(.ready)
    }

    @Test func `an unused socket or an impossible name is an error with the name`() {
        let long = "/" + String(repeating: "x", count: 200)
        for (name, code) in [("/none/notify", Errno.noSuchFileOrDirectory), (long, .fileNameTooLong)] {
            let error = #expect(throws: CommandFailure.self) {
                try ServiceNotifier(environment: ["NOTIFY_SOCKET": name]).notify(.ready)
            }
            #expect(error?.reason == "NOTIFY_SOCKET \(name): systemd was not notified: \(code)")
        }
    }

    @Test func `the watchdog's interval is only for the named process`() {
        func interval(_ environment: [String: String]) -> Duration? {
            ServiceNotifier(environment: environment).watchdogInterval
        }
        #expect(interval(["WATCHDOG_USEC": "20000000"]) == .seconds(20))
        #expect(interval(["WATCHDOG_USEC": "20000000", "WATCHDOG_PID": "\(getpid())"]) == .seconds(20))
        #expect(interval(["WATCHDOG_USEC": "20000000", "WATCHDOG_PID": "1"]) == nil)
        #expect(interval(["WATCHDOG_USEC": "0"]) == nil)
        #expect(interval(["WATCHDOG_USEC": "soon"]) == nil)
    }
}
