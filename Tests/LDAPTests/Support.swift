import LDAP
import Sandbox
import EventLoop
import Foundation
import SystemPackage
import TestSupport
import Testing

extension DN {
    /// Where the tests put their entries.
    static let tests = DN.root.appending("dc", "org").appending("dc", "stoney-cloud").appending("ou", "tests")

    /// A test's entry.
    static func test(_ name: String) -> DN { tests.appending("cn", name) }
}

extension Entry {
    /// A person below `ou=tests`.
    static func test(_ name: String, title: AttributeValue = "open") -> Entry {
        Entry(
            dn: .test(name),
            attributes: [
                Attribute("objectClass", ["inetOrgPerson"]), Attribute("cn", [AttributeValue(name)]),
                Attribute("sn", [AttributeValue(name)]), Attribute("title", [title]),
            ])
    }
}

extension LDAPSandbox {
    func manager() throws -> Credentials {
        .simple(bindDN: try DN(parsing: adminDN), password: Secret(adminPassword))
    }

    func options(operationTimeout: Duration = .seconds(20)) throws -> ConnectionOptions {
        ConnectionOptions(credentials: try manager(), operationTimeout: operationTimeout)
    }

    func connect(operationTimeout: Duration = .seconds(20)) async throws -> LDAPConnection {
        try await .open(try ServerAddress(parsing: uri), options: try options(operationTimeout: operationTimeout))
    }
}

/// A server with an empty `ou=tests` and a connection as its Manager.
func withSandbox(
    _ options: SandboxOptions = .testing,
    _ body: (LDAPSandbox, LDAPConnection) async throws -> Void
) async throws {
    try await LDAPSandbox.temporary(options: options) { sandbox in
        let connection = try await sandbox.connect()
        try await connection.add(
            Entry(
                dn: .tests, attributes: [Attribute("objectClass", ["organizationalUnit"]), Attribute("ou", ["tests"])]))
        try await body(sandbox, connection)
        connection.close()
    }
}

/// The error that `body` throws; nil, and a failed test, when it throws none.
func failure<T>(
    _ location: SourceLocation = #_sourceLocation, of body: () async throws(LDAPError) -> T
) async -> LDAPError? {
    do throws(LDAPError) {
        _ = try await body()
        Issue.record("there was no error", sourceLocation: location)
        return nil
    } catch {
        return error
    }
}

/// How many sockets of this process are connected to the server's local socket.
func openSockets(of sandbox: LDAPSandbox) throws -> Int {
    guard case .local(let path) = try ServerAddress(parsing: sandbox.uri).endpoint else { return 0 }
    return try FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd").count { name in
        guard let descriptor = Int32(name) else { return false }
        var address = sockaddr_un()
        var size = socklen_t(MemoryLayout<sockaddr_un>.size)
        let isConnected = withUnsafeMutablePointer(to: &address) { place in
            place.withMemoryRebound(to: sockaddr.self, capacity: 1) { getpeername(descriptor, $0, &size) == 0 }
        }
        guard isConnected, address.sun_family == AF_UNIX else { return false }
        return withUnsafeBytes(of: address.sun_path) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) } == path
    }
}

/// How many bytes have come from a port of 127.0.0.1 that this process has not read yet.
func unread(from port: UInt16) throws -> Int {
    let peer = Listener.address(host: 1, port: port)
    return try FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd").compactMap(Int32.init).reduce(0) {
        sum, descriptor in
        var address = sockaddr_in()
        var size = socklen_t(MemoryLayout<sockaddr_in>.size)
        let isConnected = withUnsafeMutablePointer(to: &address) { place in
            place.withMemoryRebound(to: sockaddr.self, capacity: 1) { getpeername(descriptor, $0, &size) == 0 }
        }
        guard isConnected, address.sin_family == peer.sin_family, address.sin_port == peer.sin_port else { return sum }
        var count: Int32 = 0
        return ioctl(descriptor, UInt(FIONREAD), &count) == 0 ? sum + Int(count) : sum
    }
}

/// How often the event loop of this process, which runs on its first thread, has gone to sleep.
func sleepsOfLoop() throws -> Int {
    let status = try String(contentsOfFile: "/proc/self/task/\(getpid())/status", encoding: .utf8)
    let line = status.split(separator: "\n").first { $0.hasPrefix("voluntary_ctxt_switches:") }
    return try #require(line?.split(separator: "\t").last.flatMap { Int($0) })
}

/// Returns when the event loop has fired a timer that is set now, which it does unless something holds it up.
func timerFires() async {
    await withCheckedContinuation { continuation in
        EventLoop.shared.post { EventLoop.shared.call(at: .now) { continuation.resume() } }
    }
}

/// Stops the server with SIGSTOP, and returns when each of its threads is stopped.
func freeze(_ sandbox: LDAPSandbox) async throws {
    sandbox.pause()
    let tasks = "/proc/\(sandbox.processID)/task"
    try await eventually {
        try FileManager.default.contentsOfDirectory(atPath: tasks).allSatisfy { task in
            try String(contentsOfFile: "\(tasks)/\(task)/status", encoding: .utf8).contains("State:\tT")
        }
    }
}
