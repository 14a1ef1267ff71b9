import Sandbox
import Foundation
import Glibc
import Testing

@testable import LDAP

/// A server's certificate, what it is refused for, and what decides about that.
@Suite(.serialized, .timeLimit(.minutes(10)))
struct CertificateTests {
    /// A server with a certificate of an authority of our own.
    private func withServer(
        named names: String, commonName: String = "server", validity: String = TestAuthority.thirtyDays,
        _ body: (LDAPSandbox, TestAuthority, Ports) async throws -> Void
    ) async throws {
        let authority = try TestAuthority()
        defer { authority.remove() }
        let certificate = try authority.certify(names, commonName: commonName, validity: validity)
        var options = SandboxOptions.testing
        (options.loopbackPort, options.loopbackTLSPort) = (0, 0)
        options.globalLines = [
            "TLSCertificateFile \(certificate.path)", "TLSCertificateKeyFile \(authority.serverKey.path)",
        ]
        try await LDAPSandbox.temporary(options: options) { sandbox in
            try await body(sandbox, authority, try Ports(sandbox))
        }
    }

    private struct Ports {
        /// Both ways of TLS.
        let ways: [(port: UInt16, tls: Bool)]

        init(_ sandbox: LDAPSandbox) throws {
            ways = try [sandbox.loopbackURI, sandbox.loopbackTLSURI].map {
                guard case .tcp(_, let port, let tls) = try ServerAddress(parsing: try #require($0)).endpoint else {
                    throw TestAuthority.Failed()
                }
                return (port, tls)
            }
        }
    }

    private func open(
        _ host: String, _ way: (port: UInt16, tls: Bool), caFile: String?
    ) async throws(LDAPError) -> LDAPConnection {
        try await .open(
            ServerAddress(.tcp(host: host, port: way.port, tls: way.tls)),
            options: ConnectionOptions(tls: TLSOptions(startTLS: true, caFile: caFile)))
    }

    @Test func `a certificate for localhost is valid for localhost, with any host name of the machine`() async throws {
        try await withServer(named: "DNS:localhost") { _, authority, ports in
            for way in ports.ways {
                let connection = try await open("localhost", way, caFile: authority.file.path)
                #expect(try await connection.features().contains(.startTLS))
                connection.close()
            }
        }
        try await withServer(named: "DNS:\(ProcessInfo.processInfo.hostName)") { _, authority, ports in
            for way in ports.ways {
                let error = await failure { () async throws(LDAPError) in
                    try await open("localhost", way, caFile: authority.file.path)
                }
                #expect(
                    error?.certificateFault
                        == .otherHost("localhost", names: [ProcessInfo.processInfo.hostName]))
            }
        }
    }

    @Test func `where a certificate names hosts its common name, which may be anything, is none of them`() async throws
    {
        for (alternative, names) in [("DNS:web.example", ["web.example"]), ("email:a@example.org", [])] {
            try await withServer(named: alternative, commonName: "localhost") { _, authority, ports in
                for way in ports.ways {
                    let error = await failure { () async throws(LDAPError) in
                        try await open("localhost", way, caFile: authority.file.path)
                    }
                    #expect(error?.certificateFault == .otherHost("localhost", names: names))
                }
            }
        }
    }

    @Test func `unknown authority, other host and expired certificate are distinguished, each with its hint`()
        async throws
    {
        let other = try TestAuthority()
        defer { other.remove() }
        try await withServer(named: "DNS:ldap.example.org,DNS:*.example.net,IP:127.0.0.1") { _, authority, ports in
            for way in ports.ways {
                let unknown = await failure { () async throws(LDAPError) in
                    try await open("127.0.0.1", way, caFile: other.file.path)
                }
                #expect(unknown?.certificateFault == .untrusted(authorities: other.file.path))
                #expect(unknown?.hint?.contains("in TLS_CA_FILE") == true)
                let unlisted = await failure { () async throws(LDAPError) in
                    try await open("127.0.0.1", way, caFile: nil)
                }
                #expect(unlisted?.certificateFault?.description.hasPrefix("no authority in /etc/") == true)
                let stranger = await failure { () async throws(LDAPError) in
                    try await open("localhost", way, caFile: authority.file.path)
                }
                let names = ["ldap.example.org", "*.example.net", "127.0.0.1"]
                #expect(stranger?.certificateFault == .otherHost("localhost", names: names))
                #expect(stranger?.hint?.hasSuffix("into SERVER, such as ldap.example.org") == true)
                for error in [unknown, unlisted, stranger] {
                    #expect(error?.code == .connectError)
                    #expect(error?.isRetryable == true)
                }
            }
        }
        try await withServer(named: "DNS:localhost", validity: TestAuthority.past) { _, authority, ports in
            for way in ports.ways {
                let error = try #require(
                    await failure { () async throws(LDAPError) in
                        try await open("localhost", way, caFile: authority.file.path)
                    })
                let text = "\(error)"
                #expect(
                    text.contains(/has expired on [0-9-]{10}; renew the certificate at the server/), "\(error)")
            }
        }
    }

    /// Each way by which OpenLDAP's programs are told of authorities.
    @Test(arguments: ["./ldaprc", "~/.ldaprc", "LDAPCONF", "LDAPRC", "LDAPTLS_CACERT"])
    func `no file and no environment variable sets authorities`(_ way: String) async throws {
        try await withServer(named: "DNS:localhost") { _, authority, ports in
            let (directory, file, port) = (
                authority.directory.path, authority.file.path, try #require(ports.ways.last).port
            )
            await #expect(processExitsWith: .success) {
                [
                    way = way as String, directory = directory as String, file = file as String, port = port as UInt16
                ] in
                #expect(chdir(directory) == 0)
                setenv("HOME", directory, 1)
                let names = ["./ldaprc": "ldaprc", "~/.ldaprc": ".ldaprc"]
                let path = "\(directory)/\(names[way] ?? "conf")"
                try "TLS_CACERT \(file)\n".write(toFile: path, atomically: true, encoding: .utf8)
                if names[way] == nil { setenv(way, way == "LDAPTLS_CACERT" ? file : path, 1) }
                let server = ServerAddress(.tcp(host: "localhost", port: port, tls: true))
                let trusting = ConnectionOptions(tls: TLSOptions(caFile: file))
                try await LDAPConnection.open(server, options: trusting).close()
                let error = await failure { () async throws(LDAPError) in
                    try await LDAPConnection.open(server)
                }
                #expect(error?.certificateFault != nil, "\(String(describing: error))")
            }
        }
    }

    @Test func `a truncated certificate is parsed as far as possible, and its times are decoded`() throws {
        let authority = try TestAuthority()
        defer { authority.remove() }
        let file = try authority.certify("DNS:*.example.org,IP:::1,email:a@example.org")
        let bytes = try authority.der(of: file)
        let certificate = try PeerCertificate(bytes)
        #expect(certificate.names == ["*.example.org", "::1"])
        for host in ["a.EXAMPLE.org", "::1"] { #expect(certificate.fault(for: host) == nil) }
        for host in ["example.org", "a.b.example.org", "127.0.0.1", "server"] {
            #expect(certificate.fault(for: host) == .otherHost(host, names: certificate.names))
        }
        let now = time(nil)
        #expect(
            certificate.fault(for: "::1", at: now + 31 * 86_400) == .expired(PeerCertificate.day(certificate.end)))
        #expect(
            certificate.fault(for: "::1", at: now - 86_400) == .notYetValid(PeerCertificate.day(certificate.begin)))
        for count in bytes.indices {
            #expect(throws: BERReader.Malformed.self) { try PeerCertificate(Array(bytes.prefix(count))) }
        }
    }

    @Test func `a FIFO named ldaprc in the working directory does not block`() async throws {
        try await LDAPSandbox.temporary(options: .testing) { sandbox in
            let directory = FileManager.default.temporaryDirectory.appending(path: "fifo-\(UUID().uuidString)")
            try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: false)
            defer { try? FileManager.default.removeItem(at: directory) }
            let (path, uri) = (directory.path, sandbox.uri)
            await #expect(processExitsWith: .success) { [path = path as String, uri = uri as String] in
                #expect(mkfifo("\(path)/ldaprc", 0o666) == 0)
                #expect(chdir(path) == 0)
                try await LDAPConnection.open(ServerAddress(parsing: uri), options: ConnectionOptions()).close()
            }
        }
    }
}

/// A certificate authority in a directory of its own, by openssl.
struct TestAuthority {
    struct Failed: Error {}

    let directory: URL
    var file: URL { directory.appending(path: "ca.crt") }
    var serverKey: URL { directory.appending(path: "server.key") }
    /// Options of `openssl ca`, since `openssl x509` takes no negative days with OpenSSL 3.5 and no dates with 3.0.
    static let thirtyDays = "-days 30"
    static let past = "-startdate 20200101000000Z -enddate 20200102000000Z"
    private static let newKey = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"

    init() throws {
        directory = FileManager.default.temporaryDirectory.appending(path: "authority-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: false)
        try shell("openssl req -x509 \(Self.newKey) -subj /CN=authority -keyout ca.key -out ca.crt")
        try Data().write(to: directory.appending(path: "index"))
        try """
        [ca]
        default_ca = ca
        database = index
        new_certs_dir = .
        rand_serial = yes
        default_md = default
        unique_subject = no
        policy = policy
        [policy]
        commonName = supplied
        """.write(to: directory.appending(path: "ca.cnf"), atomically: true, encoding: .utf8)
    }

    func remove() { try? FileManager.default.removeItem(at: directory) }

    /// - Parameters:
    ///   - names: as openssl writes subjectAltName.
    ///   - validity: ``thirtyDays`` from now, or ``past``.
    func certify(_ names: String, commonName: String = "server", validity: String = thirtyDays) throws -> URL {
        try "subjectAltName=\(names)\n".write(
            to: directory.appending(path: "names"), atomically: true, encoding: .utf8)
        try shell(
            """
            openssl req \(Self.newKey) -subj /CN=\(commonName) -keyout server.key -out server.csr
            openssl ca -batch -config ca.cnf -cert ca.crt -keyfile ca.key \(validity) -extfile names -notext \
                -in server.csr -out server.crt
            """)
        return directory.appending(path: "server.crt")
    }

    func der(of certificate: URL) throws -> [UInt8] {
        let file = directory.appending(path: "der")
        try shell("openssl x509 -in '\(certificate.path)' -outform DER -out '\(file.path)'")
        return Array(try Data(contentsOf: file))
    }

    private func shell(_ script: String) throws {
        let process = Process()
        process.executableURL = URL(filePath: "/bin/sh")
        process.arguments = ["-ec", script]
        process.currentDirectoryURL = directory
        process.standardError = FileHandle.nullDevice
        try process.run()
        process.waitUntilExit()
        guard process.terminationStatus == 0 else { throw Failed() }
    }
}
