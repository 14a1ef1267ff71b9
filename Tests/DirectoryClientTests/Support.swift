import DirectoryClient
import DirectoryModel
import DirectorySandbox
import Foundation
import SystemPackage
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

extension DirectorySandbox {
    func manager() throws -> Credentials {
        .simple(bindDN: try DN(parsing: adminDN), password: Secret(adminPassword))
    }

    func options(operationTimeout: Duration = .seconds(20)) throws -> ConnectionOptions {
        ConnectionOptions(credentials: try manager(), operationTimeout: operationTimeout)
    }

    func connect(operationTimeout: Duration = .seconds(20)) async throws -> DirectoryConnection {
        try await .open(try ServerAddress(parsing: uri), options: try options(operationTimeout: operationTimeout))
    }
}

/// A server with an empty `ou=tests` and a connection as its Manager.
func withDirectory(
    _ options: SandboxOptions = .testing,
    _ body: (DirectorySandbox, DirectoryConnection) async throws -> Void
) async throws {
    try await DirectorySandbox.temporary(options: options) { sandbox in
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
    _ location: SourceLocation = #_sourceLocation, of body: () async throws(DirectoryError) -> T
) async -> DirectoryError? {
    do throws(DirectoryError) {
        _ = try await body()
        Issue.record("there was no error", sourceLocation: location)
        return nil
    } catch {
        return error
    }
}

/// Waits until a condition holds, at most twenty seconds.
func eventually(
    _ location: SourceLocation = #_sourceLocation, _ condition: () async throws -> Bool
) async throws {
    let deadline = ContinuousClock.now + .seconds(20)
    while try await !condition() {
        guard ContinuousClock.now < deadline else {
            Issue.record("the condition did not come to hold", sourceLocation: location)
            return
        }
        try await Task.sleep(for: .milliseconds(5))
    }
}

/// A TCP port of 127.0.0.1 where nobody listens.
func unusedPort() throws -> UInt16 { try Listener().port }

/// How many sockets of this process are connected to the server's local socket.
func openSockets(of sandbox: DirectorySandbox) throws -> Int {
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

/// Listens on a free TCP port of 127.0.0.1.
final class Listener: Sendable {
    let descriptor: Int32
    let port: UInt16

    init() throws {
        descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = in_addr_t(0x7f00_0001).bigEndian
        var size = socklen_t(MemoryLayout<sockaddr_in>.size)
        let descriptor = descriptor
        let code = withUnsafeMutablePointer(to: &address) { place in
            place.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(descriptor, $0, size) == 0 && listen(descriptor, 64) == 0
                    && getsockname(descriptor, $0, &size) == 0
            }
        }
        port = UInt16(bigEndian: address.sin_port)
        try #require(code, "no TCP port of 127.0.0.1 can be had")
    }

    deinit { close(descriptor) }
}
