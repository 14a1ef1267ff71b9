/// Makes a certificate authority and a server certificate for `localhost` and 127.0.0.1, with openssl.
enum SandboxCertificates {
    private static let newKey = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "365"]

    /// Makes the files where they are not there yet.
    static func make(in folder: SandboxFolder) async throws(SandboxError) {
        if (try? TextFile.read(folder.serverCertificate)) != nil { return }
        try SandboxFolder.makeDirectory(folder.certificates)
        try await SlapdLauncher.run(
            "openssl",
            ["req", "-x509"] + newKey + [
                "-subj", "/CN=Authority of a sandbox", "-keyout", folder.caKey.string,
                "-out", folder.caCertificate.string,
            ])
        try await SlapdLauncher.run(
            "openssl",
            ["req", "-x509"] + newKey + [
                "-CA", folder.caCertificate.string, "-CAkey", folder.caKey.string, "-subj", "/CN=localhost",
                "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE",
                "-keyout", folder.serverKey.string, "-out", folder.serverCertificate.string,
            ])
    }
}
