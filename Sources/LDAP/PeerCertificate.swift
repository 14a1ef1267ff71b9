import Glibc

/// Some fields of a server's certificate (X.509, RFC 5280, section 4.1), for the message of a refusal. They are not used to accept one.
struct PeerCertificate: Hashable {
    /// Host names and addresses: those in subjectAltName, or without one the subject's common name (RFC 4513, section 3.1.3).
    private(set) var names: [String] = []
    /// The period of validity, as `YYYYMMDDhhmmssZ`.
    let begin: String, end: String

    private static let commonName: [UInt8] = [0x55, 0x04, 0x03], alternativeNames: [UInt8] = [0x55, 0x1d, 0x11]
    private static let objectIdentifier: UInt8 = 0x06, utcTime: UInt8 = 0x17
    private static let hostName = BER.context(2), address = BER.context(7)

    init(_ der: [UInt8]) throws(BERReader.Malformed) {
        var outer = BERReader(der)
        var certificate = try outer.members(BER.sequence)
        var body = try certificate.members(BER.sequence)
        _ = try body.optional(BER.context(0, constructed: true))  // version
        _ = try body.content(BER.integer)  // serial number
        _ = try body.content(BER.sequence)  // signature
        _ = try body.content(BER.sequence)  // issuer
        var validity = try body.members(BER.sequence)
        begin = try Self.time(&validity)
        end = try Self.time(&validity)
        let common = try Self.commonNames(try body.members(BER.sequence))
        _ = try body.content(BER.sequence)  // public key
        _ = try body.optional(BER.context(1))  // unique identifiers, which are not used
        _ = try body.optional(BER.context(2))
        var alternatives: [String]?
        if let extensions = try body.optional(BER.context(3, constructed: true)) {
            var list = BERReader(extensions)
            alternatives = try Self.alternativeNames(try list.members(BER.sequence))
        }
        names = alternatives ?? common
    }

    /// Why it is not valid for this host at this time, as far as its fields tell.
    func fault(for host: String, at now: time_t = Glibc.time(nil)) -> CertificateFault? {
        let now = Self.text(now)
        if now > end { return .expired(Self.day(end)) }
        if now < begin { return .notYetValid(Self.day(begin)) }
        return names.contains { Self.matches($0, host) } ? nil : .otherHost(host, names: names)
    }

    // MARK: - Names

    private static func matches(_ name: String, _ host: String) -> Bool {
        let (name, host) = (name.lowercased(), host.lowercased())
        guard name.hasPrefix("*."), let dot = host.firstIndex(of: ".") else { return name == host }
        return name.dropFirst() == host[dot...]
    }

    private static func commonNames(_ subject: BERReader) throws(BERReader.Malformed) -> [String] {
        var (subject, names) = (subject, [String]())
        while !subject.isAtEnd {
            var set = try subject.members(BER.set)
            while !set.isAtEnd {
                var attribute = try set.members(BER.sequence)
                guard try attribute.content(objectIdentifier).elementsEqual(commonName), let tag = attribute.nextTag
                else { continue }
                names.append(String(decoding: try attribute.content(tag), as: UTF8.self))
            }
        }
        return names
    }

    /// - Returns: nil where there is no such extension; none where it names no host.
    private static func alternativeNames(_ extensions: BERReader) throws(BERReader.Malformed) -> [String]? {
        var (extensions, names) = (extensions, [String]?.none)
        while !extensions.isAtEnd {
            var member = try extensions.members(BER.sequence)
            guard try member.content(objectIdentifier).elementsEqual(alternativeNames) else { continue }
            _ = try member.flag(default: false)
            var value = BERReader(try member.content(BER.octets))
            var list = try value.members(BER.sequence)
            names = names ?? []
            while let tag = list.nextTag {
                let content = try list.content(tag)
                switch tag {
                case hostName: names?.append(String(decoding: content, as: UTF8.self))
                case address: numeric(Array(content)).map { names?.append($0) }
                default: break
                }
            }
        }
        return names
    }

    private static func numeric(_ bytes: [UInt8]) -> String? {
        guard let family = [4: AF_INET, 16: AF_INET6][bytes.count] else { return nil }
        var text = [CChar](repeating: 0, count: Int(INET6_ADDRSTRLEN))
        guard unsafe inet_ntop(family, bytes, &text, socklen_t(text.count)) != nil else { return nil }
        return String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    // MARK: - Times

    /// UTCTime has a year of two digits, which are of 1950 to 2049.
    private static func time(_ reader: inout BERReader) throws(BERReader.Malformed) -> String {
        guard let tag = reader.nextTag else { throw BERReader.Malformed() }
        let text = String(decoding: try reader.content(tag), as: UTF8.self)
        return tag == utcTime ? (text < "50" ? "20" : "19") + text : text
    }

    private static func text(_ time: time_t) -> String {
        var (time, parts, buffer) = unsafe (time, tm(), [CChar](repeating: 0, count: 32))
        unsafe gmtime_r(&time, &parts)
        let count = unsafe strftime(&buffer, buffer.count, "%Y%m%d%H%M%SZ", &parts)
        return String(decoding: buffer.prefix(count).map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    /// `YYYY-MM-DD`
    static func day(_ time: String) -> String {
        "\(time.prefix(4))-\(time.dropFirst(4).prefix(2))-\(time.dropFirst(6).prefix(2))"
    }
}

/// Why a server's certificate is refused.
public struct CertificateFault: Hashable, Sendable, CustomStringConvertible {
    /// The reason.
    public let description: String
    /// How to fix it.
    let hint: String

    /// - Parameter day: `YYYY-MM-DD`.
    static func expired(_ day: String) -> Self {
        Self(
            description: "the server's certificate has expired on \(day)", hint: "renew the certificate at the server")
    }

    /// - Parameter day: `YYYY-MM-DD`.
    static func notYetValid(_ day: String) -> Self {
        Self(
            description: "the server's certificate is not valid before \(day)",
            hint: "set the clock of this machine right (timedatectl), or that of the server's authority")
    }

    static func otherHost(_ host: String, names: [String]) -> Self {
        let shown = names.prefix(5).joined(separator: ", ") + (names.count > 5 ? ", …" : "")
        return Self(
            description: "the server's certificate is not for \(host) but for \(names.isEmpty ? "no host" : shown)",
            hint: "make sure that it is your server; then write the server's name in the certificate into SERVER"
                + (names.first.map { ", such as \($0)" } ?? ""))
    }

    /// It is not signed by a trusted authority.
    static func untrusted(authorities file: String) -> Self {
        Self(
            description: "no authority in \(file) vouches for the server's certificate",
            hint: "name the certificate of the server's authority in TLS_CA_FILE")
    }
}
