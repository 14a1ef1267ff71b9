import Foundation
import SystemPackage
import Testing

@testable import Daemon

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
    func `systemd hears every state, on a path and on an abstract name`(isAbstract: Bool) throws {
        let directory = try TemporaryDirectory()
        let name = (isAbstract ? "@" : "") + directory.path.appending("notify").string
        let systemd = try NotifySocket(name)
        let notifier = ServiceNotifier(environment: ["NOTIFY_SOCKET": name])
        try notifier.notify(.ready, .status("3 accounts\nREADY=0"))
        #expect(systemd.receive() == "READY=1\nSTATUS=3 accounts\\nREADY=0")
        try notifier.notify(.watchdog)
        #expect(systemd.receive() == "WATCHDOG=1")
        try notifier.notify(.stopping)
        #expect(systemd.receive() == "STOPPING=1")
        try notifier.notify(.reloading)
        let reload = systemd.receive().split(separator: "\n")
        #expect(reload.first == "RELOADING=1")
        #expect(try Int64(#require(reload.last).dropFirst("MONOTONIC_USEC=".count)) ?? 0 > 0)
    }

    @Test func `outside systemd nothing happens`() throws {
        let notifier = ServiceNotifier(environment: [:])
        #expect(notifier.watchdogInterval == nil)
        try notifier.notify(.ready)
    }

    @Test func `a socket where nobody listens, or with an impossible name, is an error with its name`() {
        #expect(throws: ServiceNotifierError(socket: "/none/notify", code: .noSuchFileOrDirectory)) {
            try ServiceNotifier(environment: ["NOTIFY_SOCKET": "/none/notify"]).notify(.ready)
        }
        let long = "/" + String(repeating: "x", count: 200)
        #expect(throws: ServiceNotifierError(socket: long, code: .fileNameTooLong)) {
            try ServiceNotifier(environment: ["NOTIFY_SOCKET": long]).notify(.ready)
        }
    }

    @Test func `the watchdog's interval counts for the process that it names`() {
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
