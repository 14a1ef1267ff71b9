/// Why a server's certificate is not accepted.
public enum CertificateFault: Hashable, Sendable, CustomStringConvertible {
    /// It was valid until then: `YYYY-MM-DD`.
    case expired(String)
    /// It is valid from then on.
    case notYetValid(String)
    /// It names others than the host that was asked for.
    case otherHost(String, names: [String])
    /// None of the trusted authorities vouches for it.
    case untrusted(authorities: String)

    private static let shownNames = 5

    /// What is wrong.
    public var description: String {
        switch self {
        case .expired(let day): "the server's certificate has expired on \(day)"
        case .notYetValid(let day): "the server's certificate is not valid before \(day)"
        case .otherHost(let host, let names):
            "the server's certificate is not for \(host) but for "
                + (names.isEmpty ? "nobody" : names.prefix(Self.shownNames).joined(separator: ", "))
                + (names.count > Self.shownNames ? ", …" : "")
        case .untrusted(let file): "no authority in \(file) vouches for the server's certificate"
        }
    }

    /// How to fix it.
    var hint: String {
        switch self {
        case .expired: "renew the certificate at the server"
        case .notYetValid: "set the clock of this machine right (timedatectl), or that of the server's authority"
        case .otherHost(_, let names):
            "make sure that it is your server; then write the server's name in the certificate into SERVER\(names.first.map { ", such as \($0)" } ?? "")"
        case .untrusted: "name the certificate of the server's authority in TLS_CA_FILE"
        }
    }
}
