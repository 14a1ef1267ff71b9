import SystemPackage

/// Where a sandbox's server listens.
struct SandboxAddresses: Sendable, Hashable {
    let socket: FilePath
    let port: Int?
    let tlsPort: Int?

    init(socket: FilePath, port: Int?, tlsPort: Int?) {
        self.socket = socket
        self.port = port
        self.tlsPort = tlsPort
    }

    /// Chooses free ports where the options ask for any.
    init(socket: FilePath, options: SandboxOptions) throws(SandboxError) {
        self.init(
            socket: socket, port: try Self.port(options.loopbackPort, "loopbackPort"),
            tlsPort: try Self.port(options.loopbackTLSPort, "loopbackTLSPort"))
    }

    private static func port(_ wanted: Int?, _ option: String) throws(SandboxError) -> Int? {
        guard let wanted else { return nil }
        if wanted == 0 { return try ServerProbe.freePort() }
        guard 1...65535 ~= wanted else {
            throw SandboxError(
                .option, "\(option) is \(wanted), which is no TCP port", hint: "use 1 to 65535, or 0 for a free one")
        }
        return wanted
    }

    var uri: String { "ldapi://" + Self.percentEncoded(socket.string) }
    var loopbackURI: String? { port.map { "ldap://127.0.0.1:\($0)" } }
    var loopbackTLSURI: String? { tlsPort.map { "ldaps://127.0.0.1:\($0)" } }
    var all: [String] { [uri, loopbackURI, loopbackTLSURI].compactMap { $0 } }

    /// The text of the file in which a sandbox's directory keeps its addresses: one `key value` a line.
    var text: String {
        var lines = ["socket \(socket)"]
        if let port { lines.append("port \(port)") }
        if let tlsPort { lines.append("tlsPort \(tlsPort)") }
        return lines.joined(separator: "\n") + "\n"
    }

    /// Reads what ``text`` has written; nothing where it is something else.
    init?(text: String) {
        var values: [Substring: Substring] = [:]
        for line in text.split(separator: "\n") {
            guard let blank = line.firstIndex(of: " ") else { return nil }
            values[line[..<blank]] = line[line.index(after: blank)...]
        }
        guard let socket = values["socket"] else { return nil }
        self.init(
            socket: FilePath(String(socket)), port: values["port"].flatMap { Int($0) },
            tlsPort: values["tlsPort"].flatMap { Int($0) })
    }

    /// A path as the host of an `ldapi://` URI: everything but unreserved characters escaped (RFC 3986 section 2.3).
    private static func percentEncoded(_ path: String) -> String {
        let digits = Array("0123456789ABCDEF")
        var text = ""
        for byte in path.utf8 {
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"),
                UInt8(ascii: "~"):
                text.unicodeScalars.append(Unicode.Scalar(byte))
            default:
                text += "%"
                text.append(digits[Int(byte >> 4)])
                text.append(digits[Int(byte & 15)])
            }
        }
        return text
    }
}
