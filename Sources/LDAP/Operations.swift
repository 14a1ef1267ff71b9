extension LDAPConnection {
    /// Changes an entry (RFC 4511, section 4.6): all modifications or none.
    ///
    /// - Parameters:
    ///   - filter: must match the entry as it is, else nothing is changed and the error is `assertionFailed` (RFC 4528).
    ///   - postRead: attributes to send back as they are afterwards (RFC 4527).
    /// - Returns: the entry afterwards; nil when none was asked for or the server does not offer it.
    /// - Throws: among others `noSuchAttribute` when a value to delete is not there, which is how a compare-and-set is lost.
    @discardableResult
    public func modify(
        _ dn: DN, _ modifications: [Modification], asserting filter: Filter? = nil, postRead: [AttributeName] = []
    ) async throws(LDAPError) -> Entry? {
        let request = Request.modify(dn, modifications)
        var controls: [Control] = postRead.isEmpty ? [] : [.postRead(postRead)]
        if let filter {
            guard let assertion = Control.assertion(filter) else {
                throw LDAPError(
                    .filterError, operation: "\(request)", server: "\(server)", diagnostic: "\(filter) is malformed")
            }
            controls.insert(assertion, at: 0)
        }
        let outcome = try await succeed(request, controls: controls).outcome
        do throws(BERReader.Malformed) { return try outcome.controls.postRead() } catch {
            throw malformed("the entry", request)
        }
    }

    /// Adds an entry (RFC 4511, section 4.7).
    /// - Throws: among others `entryAlreadyExists`, and `noSuchObject` when the parent is missing.
    public func add(_ entry: Entry) async throws(LDAPError) { _ = try await succeed(.add(entry)) }

    /// Deletes an entry without children (RFC 4511, section 4.8).
    public func delete(_ dn: DN) async throws(LDAPError) { _ = try await succeed(.delete(dn)) }

    /// Renames an entry, or moves it with all below it (RFC 4511, section 4.9).
    /// - Parameters:
    ///   - rdn: its new relative name.
    ///   - deleteOldRDN: whether the values of the old relative name go.
    ///   - newSuperior: its new parent; nil leaves it where it is.
    public func rename(
        _ dn: DN, to rdn: RDN, deleteOldRDN: Bool = true, newSuperior: DN? = nil
    ) async throws(LDAPError) {
        _ = try await succeed(.rename(dn, to: rdn, deleteOldRDN: deleteOldRDN, newSuperior: newSuperior))
    }

    /// Who we are for the server (RFC 4532): `dn:…`, `u:…`, or empty for anonymous.
    public func whoAmI() async throws(LDAPError) -> String {
        let value = try await succeed(.whoAmI).outcome.value ?? []
        guard let text = String(validating: value, as: UTF8.self) else { throw malformed("the identity", .whoAmI) }
        return text
    }

    /// What the server says about itself.
    public func rootDSE() async throws(LDAPError) -> RootDSE {
        guard let entry = try await entry(at: .root, attributes: ["*", "+"]) else {
            throw LDAPError(
                .noSuchObject, operation: "read the root DSE", server: "\(server)",
                diagnostic: "the server does not show its root DSE to us")
        }
        return RootDSE(entry: entry)
    }

    /// One entry, or nil when there is none that we may see.
    /// - Parameter attributes: which ones; none named means all user attributes.
    public func entry(at dn: DN, attributes: [AttributeName] = []) async throws(LDAPError) -> Entry? {
        let request = Request.search(
            base: dn, scope: .base, filter: .present("objectClass"), attributes: attributes, sizeLimit: 0)
        let response = try await perform(request)
        guard response.outcome.code != .noSuchObject else { return nil }
        guard response.outcome.code == .success else { throw error(response.outcome, request) }
        return response.entries.first
    }

    /// Looks for entries. Nothing is sent before the first entry is asked for.
    public nonisolated func search(_ request: SearchRequest) -> LDAPSearch {
        LDAPSearch(connection: self, request: request)
    }
}

// MARK: - What a server says about itself

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
