import Glibc

/// Makes a certificate authority and a server certificate for this machine and 127.0.0.1, with openssl.
enum SandboxCertificates {
    private static let newKey = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "365"]

    /// Makes the files where they are not there yet.
    static func make(in files: SandboxFiles) async throws(SandboxError) {
        if access(files.serverCertificate.string, F_OK) == 0 { return }
        try SandboxFiles.makeDirectory(files.certificates)
        try await SlapdLauncher.run(
            "openssl",
            ["req", "-x509"] + newKey + [
                "-subj", "/CN=Authority of a sandbox", "-keyout", files.caKey.string,
                "-out", files.caCertificate.string,
            ])
        let names = (["IP:127.0.0.1"] + hostNames().map { "DNS:" + $0 }).joined(separator: ",")
        try await SlapdLauncher.run(
            "openssl",
            ["req", "-x509"] + newKey + [
                "-CA", files.caCertificate.string, "-CAkey", files.caKey.string, "-subj", "/CN=localhost",
                "-addext", "subjectAltName=\(names)", "-addext", "basicConstraints=critical,CA:FALSE",
                "-keyout", files.serverKey.string, "-out", files.serverCertificate.string,
            ])
    }

    /// The names of this machine: libldap puts the full one in place of `localhost` when it checks a certificate.
    private static func hostNames() -> [String] {
        var names = ["localhost"]
        var bytes = [CChar](repeating: 0, count: 256)
        guard gethostname(&bytes, bytes.count - 1) == 0 else { return names }
        let short = String(decoding: bytes.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        names.append(short)
        var hints = addrinfo()
        hints.ai_flags = AI_CANONNAME
        var found: UnsafeMutablePointer<addrinfo>?
        if getaddrinfo(short, nil, &hints, &found) == 0, let found {
            if let full = found.pointee.ai_canonname { names.append(String(cString: full)) }
            freeaddrinfo(found)
        }
        return names.filter { name in
            !name.isEmpty
                && name.utf8.allSatisfy {
                    $0 == 0x2d || $0 == 0x2e || Character(Unicode.Scalar($0)).isLetter
                        || Character(Unicode.Scalar($0)).isNumber
                }
        }
    }
}
