{{/* The settings of the service, and values derived from them. */}}

{{- define "inventory-refresh.configFolder" -}}/etc/inventory-refresh/config{{- end }}
{{- define "inventory-refresh.secretsFolder" -}}/etc/inventory-refresh/secrets{{- end }}
{{- define "inventory-refresh.hasSecrets" -}}
{{- if or .Values.secrets.existing .Values.secrets.externalSecret.enabled -}}true{{- end -}}
{{- end }}
{{/* All directories with secret files: the chart's own, if it mounts one, and those that something else mounts. */}}
{{- define "inventory-refresh.secretsDirectories" -}}
{{- $own := ternary (list (include "inventory-refresh.secretsFolder" .)) list (eq "true" (include "inventory-refresh.hasSecrets" .)) -}}
{{- concat $own .Values.secrets.directories | join ":" -}}
{{- end }}
{{- define "inventory-refresh.caFolder" -}}/etc/inventory-refresh/ca{{- end }}

{{/* The settings file: .Values.config, with what the chart knows, unless it sets others: the paths of mounted files, and
     the Service that has the addresses of all pods. */}}
{{- define "inventory-refresh.settings" -}}
{{- $given := include "inventory-refresh.givenSettings" . | fromYaml -}}
{{- merge $given (include "inventory-refresh.paths" . | fromYaml) (include "inventory-refresh.members" . | fromYaml) | toYaml -}}
{{- end }}

{{/* .Values.config without empty values, which count as not given. False and 0 are not empty. */}}
{{- define "inventory-refresh.givenSettings" -}}
{{- $settings := dict -}}
{{- range $section, $options := .Values.config -}}
{{- range $name, $value := $options -}}
{{- if not (has (toJson $value) (list "null" "\"\"" "[]" "{}")) -}}
{{- $_ := set $settings $section (merge (dict $name $value) (get $settings $section | default dict)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toYaml $settings -}}
{{- end }}

{{/* Settings with the paths of files that the chart mounts. */}}
{{- define "inventory-refresh.paths" -}}
{{- $paths := dict -}}
{{- if .Values.avroSchema -}}
{{- $_ := set $paths "avro" (dict "schema_file" (printf "%s/inventory-change.avsc" (include "inventory-refresh.configFolder" .))) -}}
{{- end -}}
{{- if include "inventory-refresh.hasCaBundle" . -}}
{{- $file := printf "%s/%s" (include "inventory-refresh.caFolder" .) .Values.caBundle.key -}}
{{- if has "kafka" .Values.caBundle.usedBy -}}
{{- $paths = merge $paths (dict "kafka" (dict "properties" (dict "ssl.ca.location" $file))) -}}
{{- end -}}
{{- if and (has "registry" .Values.caBundle.usedBy) .Values.config.avro.registry_url -}}
{{- $paths = merge $paths (dict "avro" (dict "registry" (dict "ssl.ca.location" $file))) -}}
{{- end -}}
{{- if has "oms" .Values.caBundle.usedBy -}}
{{- $paths = merge $paths (dict "oms" (dict "ca_file" $file)) -}}
{{- end -}}
{{- end -}}
{{- toYaml $paths -}}
{{- end }}

{{- define "inventory-refresh.members" -}}
http:
  members:
    - {{ printf "%s.%s.svc:%v" (include "inventory-refresh.fullname" .) .Release.Namespace .Values.config.http.port }}
{{- end }}

{{- define "inventory-refresh.hasCaBundle" -}}
{{- if or .Values.caBundle.configMap .Values.caBundle.secret -}}true{{- end -}}
{{- end }}

{{/* A duration in seconds; it is given as a number of seconds or as text such as 500ms, 90s, 5m, 1h. */}}
{{- define "inventory-refresh.seconds" -}}
{{- $text := toString . -}}
{{- $number := regexFind "[0-9.]+" $text | float64 -}}
{{- $unit := regexFind "[a-z]+" $text | default "s" -}}
{{- mulf $number (get (dict "ms" 0.001 "s" 1.0 "m" 60.0 "h" 3600.0) $unit) -}}
{{- end }}

{{/* A stopping process waits for requests in flight for up to kafka.revoke_timeout, then commits and closes. If it is
     killed earlier, no change is lost, but its successor sends those requests again. */}}
{{- define "inventory-refresh.graceSeconds" -}}
{{- $revoke := include "inventory-refresh.seconds" .Values.config.kafka.revoke_timeout -}}
{{- add (ceil (float64 $revoke)) .Values.shutdownMarginSeconds -}}
{{- end }}

{{/* Checksums of what the pods read at startup: pods are replaced when these change, and only then. (The chart does not
     know the content of Secrets, and the refresh interval of an ExternalSecret does not affect pods.) */}}
{{- define "inventory-refresh.checksums" -}}
{{- $secrets := dict "revision" .Values.secrets.revision -}}
{{- if .Values.secrets.externalSecret.enabled -}}
{{- $secrets = merge $secrets (pick .Values.secrets.externalSecret "secretStoreRef" "data" "dataFrom") -}}
{{- end -}}
checksum/config: {{ printf "%s%s" (include "inventory-refresh.settings" .) .Values.avroSchema | sha256sum }}
checksum/secrets: {{ toJson $secrets | sha256sum }}
{{- end }}
