import DirectoryModel

/// What a server says about itself (RFC 4512, section 5.1).
public struct RootDSE: Hashable, Sendable {
    /// What a server can offer beyond the core of the protocol.
    public enum Feature: String, CaseIterable, Sendable {
        /// Operations on the condition that a filter matches (RFC 4528).
        case assertion = "1.3.6.1.1.12"
        /// The entry as it is after the operation (RFC 4527).
        case postRead = "1.3.6.1.1.13.2"
        /// Searches page by page (RFC 2696).
        case pagedResults = "1.2.840.113556.1.4.319"
        /// Content Synchronization (RFC 4533). slapd names it as soon as the module is loaded; a database without the overlay still
        /// answers with unavailableCriticalExtension.
        case contentSync = "1.3.6.1.4.1.4203.1.9.1.1"
        /// StartTLS (RFC 4511, section 4.14).
        case startTLS = "1.3.6.1.4.1.1466.20037"
        /// Who am I? (RFC 4532).
        case whoAmI = "1.3.6.1.4.1.4203.1.11.3"
    }

    /// The roots of the trees that the server holds, as it writes them.
    public let namingContexts: [String]
    /// Object identifiers.
    public let supportedControls: Set<String>
    /// Object identifiers.
    public let supportedExtensions: Set<String>
    /// Object identifiers.
    public let supportedFeatures: Set<String>
    /// The product and its version; nil when the server keeps it to itself.
    public let vendorVersion: String?

    init(entry: Entry) {
        func texts(_ name: AttributeName) -> [String] { entry[name].compactMap(\.text) }
        namingContexts = texts("namingContexts")
        supportedControls = Set(texts("supportedControl"))
        supportedExtensions = Set(texts("supportedExtension"))
        supportedFeatures = Set(texts("supportedFeatures"))
        vendorVersion = entry.text("vendorVersion")
    }

    /// Whether the server names the feature among its controls, extensions or features.
    public func offers(_ feature: Feature) -> Bool {
        supportedControls.contains(feature.rawValue) || supportedExtensions.contains(feature.rawValue)
            || supportedFeatures.contains(feature.rawValue)
    }
}
